"""Writes a message as the bytes of one packet, and reads it: canonical JSON with the protocol's version; pure.

docs/reference/control.md describes the protocol. A message is an object of two fields: `version`, and one named after
the kind of message, with that message's fields. There is exactly one spelling in bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Final

from mvmnix.errors import UsageError
from mvmnix.formats.strict import Record, canonical, parse_json, read
from mvmnix.launch.agent.operations import MAX_PAYLOAD
from mvmnix.machines.exit_status import ExitStatus

#: Version of the messages to launchers and supervisors. Both ends have the same one, or there is no conversation.
VERSION: Final = 2
#: Bytes of a packet: twice what a guest takes of a command, and less than a socket's buffer, which a packet has to fit.
LIMIT: Final = 2 * MAX_PAYLOAD
_VERSIONS: Final = 1 << 16


class VersionError(UsageError):
    """The other end speaks another version of the protocol."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"the other process speaks version {version} of the control protocol, and this one version {VERSION}",
            hint="it runs another mvm than this one: use the same, or end the machine and start another one",
        )


def encode(message: object) -> bytes:
    """Return a message's bytes. Raises ValueError when they are more than LIMIT."""
    data = canonical({"version": VERSION, name_of(type(message)): plain(message)})
    if len(data) > LIMIT:
        raise ValueError(f"a message of {len(data)} bytes, where {LIMIT} are allowed")
    return data


def parse[T](data: bytes, readers: Mapping[str, Callable[[Record], T]]) -> T:
    """Read a message by the reader of its kind. Raises MalformedError, a ValueError; VersionError."""
    return read(parse_json(data, limit=LIMIT), "message", lambda record: _message(record, readers))


def name_of(kind: type) -> str:
    """Return the name of a kind of message in JSON.

    >>> class SharesWanted: pass
    >>> name_of(SharesWanted)
    'sharesWanted'
    """
    return kind.__name__[0].lower() + kind.__name__[1:]


def plain(value: object) -> object:
    """Return a message, or what is in one, as the values that JSON has; a field that is None is left out."""
    match value:
        case tuple():
            return [plain(each) for each in value]
        case Mapping():
            return {name: plain(each) for name, each in value.items()}
        case ExitStatus():
            return value.value()
        case _ if (to_value := getattr(value, "to_value", None)) is not None:
            return to_value()
        case _ if is_dataclass(value):
            found = {field_name(each.name): getattr(value, each.name) for each in fields(value)}
            return {name: plain(each) for name, each in found.items() if each is not None}
        case _:
            return value


def clean_text(text: str, most: int) -> str:
    r"""Return at most so many characters of a text, as any message can carry them: no NUL, no half of a surrogate pair.

    >>> ascii(clean_text("a\0b\udcffcd", 5))
    "'a\\ufffdb?c'"
    """
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def field_name(name: str) -> str:
    """Return the name of a field in JSON.

    >>> field_name("exit_code")
    'exitCode'
    """
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _message[T](record: Record, readers: Mapping[str, Callable[[Record], T]]) -> T:
    version = record.integer("version", 0, _VERSIONS)
    if version == 0:
        raise ValueError("it names no version of the protocol")
    if version != VERSION:
        raise VersionError(version)
    names = [name for name in record.names() if name in readers]
    if len(names) != 1:
        kinds = ", ".join(readers)
        raise ValueError(f"not one message of a kind that is expected here: {kinds}")
    return record.child(names[0], readers[names[0]])
