"""Follows references to secrets, in the caller's process, once a plan that names them is verified.

Nothing here writes a value anywhere, and no error has one in its text. Values go to the process that starts the machine
as sealed memory (`pack`), which `unpack` reads there.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError
from mvmnix.plan.secret_reference import (
    LARGEST_SECRET,
    LARGEST_SECRETS,
    Secret,
    SecretReference,
    SecretSource,
    SecretTarget,
)
from mvmnix.system.process import INHERITED_BY_USERS_PROGRAMS, environment, first_bytes
from mvmnix.system.store import read_sealed, sealed_memory
from mvmnix.system.trusted_path import DIRECTORY, judge, open_component, walk

#: Seconds that a command may take; the user may have to type a passphrase meanwhile.
_PATIENCE: Final = 60.0
#: Bytes of a file or of what a command prints: the largest value, the newline that may follow it, and one that tells
#: that there are more.
_MOST_READ: Final = LARGEST_SECRET + 2
#: What password managers need of our environment, beside what every child sees.
_INHERITED: Final = (
    *INHERITED_BY_USERS_PROGRAMS,
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
)


def resolve_secrets(references: Sequence[SecretReference]) -> tuple[Secret, ...]:
    """The secrets of a plan, all of them, in its order.

    Raises RefusedError [secret-unavailable] with a reason for each reference that leads nowhere.
    """
    found: list[Secret] = []
    reasons: list[Reason] = []
    last: Exception | None = None
    for reference in references:
        try:
            found.append(Secret(reference.name, reference.target, _value(reference)))
        except (OSError, ValueError, MvmnixError) as error:
            reasons.append(_reason(reference, _why(error)))
            last = error
    if (size := sum(len(secret.value) for secret in found)) > LARGEST_SECRETS:
        why = f"all secrets together have {size} bytes, and {LARGEST_SECRETS} are the most"
        reasons.append(_reason(references[-1], why))
    if reasons:
        raise RefusedError(*reasons) from last
    return tuple(found)


def pack(secrets: Sequence[Secret]) -> int:
    """Return a descriptor of sealed memory that has the values one behind the other; the caller closes it."""
    return sealed_memory(b"".join(secret.value for secret in secrets), name="mvmnix-secrets")


def unpack(references: Sequence[SecretReference], sizes: Sequence[int], fd: int) -> tuple[Secret, ...]:
    """Read what `pack` wrote, whose sizes in bytes are given; the descriptor stays open.

    Raises RefusedError [secret-unavailable] for what isn't sealed memory of this size, or doesn't fit the references.
    """
    try:
        return tuple(_unpacked(references, sizes, read_sealed(fd, LARGEST_SECRETS)))
    except (OSError, ValueError) as error:
        raise RefusedError(*(_reason(reference, _why(error)) for reference in references)) from error


def _unpacked(references: Sequence[SecretReference], sizes: Sequence[int], data: bytes) -> Iterator[Secret]:
    """Raises ValueError."""
    if len(sizes) != len(references) or sum(sizes) != len(data):
        raise ValueError("there are more values than references, or fewer")
    ends = pairwise(accumulate(sizes, initial=0))
    for each, (start, end) in zip(references, ends, strict=True):
        yield Secret(each.name, each.target, _checked(each, data[start:end]))


def _reason(reference: SecretReference, why: str) -> Reason:
    hint = f"put it there, or correct the plan's reference ({reference.source}:…); docs/reference/secrets.md"
    return Reason(ReasonCode.SECRET_UNAVAILABLE, f"the secret {reference.name}", why, hint)


def _why(error: Exception) -> str:
    """What went wrong, without anything that a value could be part of: our own words, or the system's."""
    match error:
        case RefusedError():
            return "; ".join(reason.why for reason in error.reasons)
        case OSError():
            return error.strerror or "it can't be read"
        case _:
            return str(error)


def _value(reference: SecretReference) -> bytes:
    """Raises OSError, ValueError, MvmnixError."""
    value = _ASKED[reference.source](reference.words)
    if reference.source is SecretSource.COMMAND or reference.target is SecretTarget.VARIABLE:
        value = value.removesuffix(b"\n")
    return _checked(reference, value)


def _checked(reference: SecretReference, value: bytes) -> bytes:
    """Return a value that fits its reference. Raises ValueError."""
    if not value:
        raise ValueError("there is nothing")
    if len(value) > LARGEST_SECRET:
        raise ValueError(f"it is larger than {LARGEST_SECRET} bytes")
    if reference.target is SecretTarget.VARIABLE and (b"\0" in value or not _is_text(value)):
        raise ValueError("a variable holds UTF-8 without NUL; have it as a file: --secret")
    return value


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _variable(words: Sequence[str]) -> bytes:
    (name,) = words
    value = os.environb.get(os.fsencode(name))
    if value is None:
        raise ValueError(f"there is nothing: the environment variable {name} is not set")
    return value


def _file(words: Sequence[str]) -> bytes:
    """A regular file of ours that no other user may read, without a symbolic link on the way to it."""
    (path,) = words
    opened = _opened(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with os.fdopen(opened, "rb", closefd=False) as file:  # which takes no directory, and would leave it open
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a regular file")
            if status.st_uid not in {os.geteuid(), 0}:
                raise ValueError(f"it belongs to uid {status.st_uid}")
            if status.st_mode & 0o077:
                raise ValueError(f"others may use it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600")
            return file.read(_MOST_READ)
    finally:
        os.close(opened)


def _opened(path: str, flags: int) -> int:
    """A descriptor of what a path names, every directory above it trusted. Raises OSError, ValueError, RefusedError."""

    def step(name: str, here: str, parent: int, how: int) -> int:
        if how != DIRECTORY:  # not the last component yet
            return open_component(name, here, parent, how)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)

    try:
        return walk(path, step)
    except RefusedError as refused:
        raise ValueError(f"{refused.reasons[0].what}: {refused.reasons[0].why}{_real(path)}") from refused
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"it is a symbolic link{_real(path)}") from error


def _real(path: str) -> str:
    """Where a path leads, for a message; empty for one without a symbolic link."""
    real = os.path.realpath(path)
    return "" if real == os.path.normpath(path) else f": name the real one, {real}"


def _keyring(words: Sequence[str]) -> bytes:
    """What the keyring of the caller's session has; the library is slow to import, and only here wanted.

    Of the installed backends the one that the library prefers. A configured one isn't asked: keyringrc.cfg and
    PYTHON_KEYRING_BACKEND name any module, and where to import it from.
    """
    import keyring.backend  # noqa: PLC0415
    import keyring.core  # noqa: PLC0415
    import keyring.errors  # noqa: PLC0415

    usable = [one for one in keyring.backend.get_all_keyring() if keyring.core.recommended(one)]
    if not usable:
        raise ValueError("there is no keyring in this session")
    try:
        value = max(usable, key=keyring.backend.by_priority).get_password(*words)
    except keyring.errors.KeyringError as error:
        raise ValueError(f"the keyring doesn't answer ({type(error).__name__})") from None
    return (value or "").encode()


def _command(words: Sequence[str]) -> bytes:
    """What a command prints; its program is a real path that only our user and root can change. No shell."""
    program, *_ = words
    opened = _opened(program, os.O_PATH)
    try:
        status = os.fstat(opened)
    finally:
        os.close(opened)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"the program is a symbolic link or no file{_real(program)}")
    judge(program, status)
    done = first_bytes(words, env=environment(_INHERITED), limit=_MOST_READ, timeout=_PATIENCE)
    if done.status != 0 and len(done.stdout) < _MOST_READ:  # one that prints more is killed
        raise ValueError(f"the command failed with status {done.status}")
    return done.stdout


_ASKED: Final[Mapping[SecretSource, Callable[[Sequence[str]], bytes]]] = {
    SecretSource.VARIABLE: _variable,
    SecretSource.FILE: _file,
    SecretSource.KEYRING: _keyring,
    SecretSource.COMMAND: _command,
}
