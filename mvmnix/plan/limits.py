"""What a plan bounds besides its resources and time-outs: a typed object, read and written as the plan has it; pure.

docs/reference/plan.md has each field; where one is left out nothing but the image, or what mvm has for everybody,
bounds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from mvmnix.formats.strict import Record
from mvmnix.model import SystemCalls

#: The largest number of tasks that a kernel of 64 bits knows (PID_MAX_LIMIT).
MOST_TASKS: Final = 4_194_304
#: In percent of one processor: what 64 virtual ones can use, with their devices.
MOST_CPU: Final = 6450
#: Below this a guest doesn't get through its boot.
LEAST_CPU: Final = 5
#: Weight of a control group where processors are short: what cpu.weight takes (cgroup-v2.rst).
MOST_WEIGHT: Final = 10_000
#: KiB that are kept of a machine's console, and of its command's output: 1 GiB of the user's disk each.
MOST_KIB: Final = 2**20
#: KiB that a guest may write to its shares: 1 TiB. What is kept is small; what is shared may be large.
MOST_SHARED_KIB: Final = 2**30
#: Seconds without a byte from or to a guest: 68 years, the largest signed number of 32 bits.
MOST_SECONDS: Final = 2**31 - 1
_FIELDS: Final = {
    "tasks": ("tasks", 1, MOST_TASKS),
    "cpuPercent": ("cpu_percent", LEAST_CPU, MOST_CPU),
    "cpuWeight": ("cpu_weight", 1, MOST_WEIGHT),
    "consoleKiB": ("console_kib", 1, MOST_KIB),
    "outputKiB": ("output_kib", 0, MOST_KIB),
    "idleSeconds": ("idle_seconds", 1, MOST_SECONDS),
    "sharedKiB": ("shared_kib", 1, MOST_SHARED_KIB),
}


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """None: not bounded here.

    `tasks` are processes and threads of all commands in the guest; `cpu_percent` is of one processor of the host, for
    the whole hypervisor, `cpu_weight` its part where processors are short, as cgroup v2 counts (100 is everybody's);
    `console_kib` and `output_kib` are what is kept of the console and of what the plan's command prints, in KiB;
    `idle_seconds` may pass without a byte from or to the guest; `shared_kib` is what it may write to all of its shares
    together, in KiB. `system_calls` is at least as strict as the image's.
    Raises ValueError, with all problems, for what is out of its bounds.
    """

    tasks: int | None = None
    cpu_percent: int | None = None
    cpu_weight: int | None = None
    console_kib: int | None = None
    output_kib: int | None = None
    idle_seconds: int | None = None
    shared_kib: int | None = None
    system_calls: SystemCalls | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} is between {low} and {high}, not {value}"
            for name, (_, low, high), value in self._numbers()
            if value is not None and not low <= value <= high
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def _numbers(self) -> tuple[tuple[str, tuple[str, int, int], int | None], ...]:
        return tuple((name, field, getattr(self, field[0])) for name, field in _FIELDS.items())

    @property
    def shared_bytes(self) -> int | None:
        """`shared_kib` in bytes."""
        return None if self.shared_kib is None else self.shared_kib * 1024

    def shown(self) -> Mapping[str, object]:
        """What stands in the plan: those that are given."""
        found: dict[str, object] = {name: value for name, _, value in self._numbers() if value is not None}
        return found if self.system_calls is None else found | {"systemCalls": self.system_calls}

    @classmethod
    def read(cls, record: Record) -> Self:
        """The limits of a plan, where they are left out when there are none. Raises ValueError."""
        if not record.names():
            raise ValueError("no limits: leave them out")
        numbers = {
            field: record.integer(name, low, high) for name, (field, low, high) in _FIELDS.items() if record.has(name)
        }
        tier = record.choice("systemCalls", SystemCalls) if record.has("systemCalls") else None
        return cls(system_calls=tier, **numbers)


NO_LIMITS: Final = PlanLimits()
