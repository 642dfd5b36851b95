"""Which machines a user selects by `key=value`: the words of `mvm ps --filter`, parsed and applied; no I/O."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mvmnix.launch.machines.registry import MachineEntry
from mvmnix.launch.machines.status import MachineState


def _has_label(entry: MachineEntry, text: str) -> bool:
    """`name=value` as it stands there, or `name` whatever its value."""
    name, equals, value = text.partition("=")
    labels = entry.status.labels
    return name in labels and (not equals or labels[name] == value)


#: What stands before the first equals sign, and how it is held against a machine.
_KEYS: Final[Mapping[str, Callable[[MachineEntry, str], bool]]] = {
    "id": lambda entry, value: entry.status.machine.startswith(value),
    "name": lambda entry, value: entry.status.name == value,
    "image": lambda entry, value: entry.status.image == value,
    "state": lambda entry, value: entry.state == value,
    "ended": lambda entry, value: entry.ended == value,
    "label": _has_label,
}
_STATES: Final = (*MachineState, "dead")


@dataclass(frozen=True, slots=True)
class Filter:
    """Machines whose `key` is `value`. Of several filters with one key any may hold, but all for labels."""

    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """A filter as a user types it. Raises ValueError.

        >>> Filter.parse("label=tier=web")
        Filter(key='label', value='tier=web')
        """
        key, equals, value = text.partition("=")
        if key not in _KEYS or not equals or not value:
            raise ValueError(f"{text!r} is not a filter: one of {', '.join(_KEYS)}, an equals sign, and a value")
        if key == "state" and value not in _STATES:
            raise ValueError(f"{value!r} is not a state: {', '.join(_STATES)}")
        return cls(key, value)

    def holds(self, entry: MachineEntry) -> bool:
        """Whether this machine is meant."""
        return _KEYS[self.key](entry, self.value)


def filter_machines(entries: Iterable[MachineEntry], filters: Iterable[Filter]) -> list[MachineEntry]:
    """The machines that are meant by all of these."""
    wanted = tuple(filters)
    groups = [[it for it in wanted if it.key == key] for key in _KEYS if key != "label"]
    groups += [[it] for it in wanted if it.key == "label"]
    return [entry for entry in entries if all(any(it.holds(entry) for it in group) for group in groups if group)]
