"""The strict parsers of the two package locks: bytes in, a frozen lock or a refusal with every problem out; no I/O."""

from collections.abc import Callable

from mvmnix.builder.pins.locks import VERSION, DebianLock, DebianPin, DependencyDepth, PythonLock, Seed, WheelPin
from mvmnix.errors import ReasonCode
from mvmnix.model import Digest
from mvmnix.strict import MAX_INTEGER, MalformedError, Record, parse_json, read

_REPAIR = "take the committed file back (git checkout), or let `mvm pin` write it"


def parse_debian(data: bytes, *, where: str = "modules/debian/lock.json") -> DebianLock:
    """Parse the Debian lock. Raises RefusedError [lock-malformed] with every problem; `where` names the file in it."""
    return _parse(data, _debian_lock, where)


def parse_python(data: bytes, *, where: str = "modules/python/lock.json") -> PythonLock:
    """Parse the wheels' lock. Raises RefusedError [lock-malformed] with every problem; `where` names the file in it."""
    return _parse(data, _python_lock, where)


def _parse[T](data: bytes, parse: Callable[[Record], T], where: str) -> T:
    try:
        return read(parse_json(data), "lock", parse)
    except MalformedError as error:
        raise error.refused(ReasonCode.LOCK_MALFORMED, where, _REPAIR) from error


def _debian_lock(record: Record) -> DebianLock:
    record.integer("version", VERSION, VERSION)
    return DebianLock(
        suite=record.text("suite"),
        architecture=record.text("architecture"),
        seed=record.child("seed", _seed),
        requested=record.child("requested", lambda requests: _by_name(requests, _reach)),
        packages=record.child("packages", lambda pins: _by_name(pins, _debian_pin)),
    )


def _python_lock(record: Record) -> PythonLock:
    record.integer("version", VERSION, VERSION)
    return PythonLock(
        python=record.text("python"), packages=record.child("packages", lambda pins: _by_name(pins, _wheel_pin))
    )


def _by_name[T](record: Record, parse: Callable[[Record, str], T]) -> dict[str, T]:
    """An object whose keys are names. Raises MalformedError with the problems of all its values."""
    problems: list[str] = []
    result = {}
    for name in record.names():
        try:
            result[name] = parse(record, name)
        except MalformedError as error:
            problems += error.problems
    if problems:
        raise MalformedError(*problems)
    return result


def _reach(record: Record, name: str) -> DependencyDepth:
    return record.choice(name, DependencyDepth)


def _seed(record: Record) -> Seed:
    nar = record.parsed("narHash", Digest.from_sri, Digest("0" * 64))
    return Seed(package=record.text("package"), path=record.text("path"), nar=nar)


def _debian_pin(pins: Record, name: str) -> DebianPin:
    return pins.child(
        name,
        lambda record: DebianPin(
            name=name,
            version=record.text("version"),
            architecture=record.text("architecture"),
            filename=record.text("filename"),
            size=record.integer("size", 1, MAX_INTEGER),
            digest=record.digest(),
            depends=record.texts("depends"),
            suite=record.text("suite") if record.has("suite") else "",
        ),
    )


def _wheel_pin(pins: Record, name: str) -> WheelPin:
    return pins.child(
        name,
        lambda record: WheelPin(
            name=name,
            version=record.text("version"),
            filename=record.text("filename"),
            size=record.integer("size", 1, MAX_INTEGER),
            digest=record.digest(),
            depends=record.texts("depends"),
        ),
    )
