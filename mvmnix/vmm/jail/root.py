"""What lies in a hypervisor's root: its program, the libraries that the loader would load for it, its firmware.

All of them are files that root alone can change, as those of `trusted_executables.check` are.
"""

import functools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read
from mvmnix.sandbox.trusted_executables import check_program, program_identity
from mvmnix.system import process
from mvmnix.system.private_dirs import Directory

#: The program interpreter of x86-64 (System V ABI, AMD64 supplement).
LOADER: Final = "/lib64/ld-linux-x86-64.so.2"
#: Changes whenever the system's libraries do.
_LIBRARIES: Final = "/etc/ld.so.cache"
_LINE: Final = re.compile(r"\s(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LIMIT: Final = 1 << 20
#: What the loader ends with when a program is none of its own: it is linked statically (ldd(1) asks the same).
_STATIC: Final = 1
#: Names at the top that may be links into /usr (merged directories).
_LINKS: Final = ("/bin", "/lib", "/lib64", "/sbin")


@dataclass(frozen=True, slots=True)
class Root:
    """By its path inside, the file of the host that lies there; `programs` are those that may be executed."""

    files: tuple[tuple[str, str], ...]
    programs: tuple[str, ...]

    @classmethod
    def of(cls, programs: Sequence[str], files: Iterable[str], cache: Directory) -> Self:
        """The root for these programs. Raises RefusedError [state-permissions], MvmnixError."""
        names = dict.fromkeys(programs)
        for program in programs:
            names |= dict.fromkeys(libraries(program, cache))
        names |= dict.fromkeys(files)
        seen: set[str] = set()
        found = {_inside(name): check_program(os.path.realpath(name), seen) for name in names}
        loaders = [LOADER] if len(names) > len(programs) else []
        return cls(tuple(sorted(found.items())), tuple(_inside(name) for name in (*programs, *loaders)))

    def mounts(self) -> tuple[str, ...]:
        """bwrap(1): the files, read-only, and the links through which they are found."""
        links = [(link, str(Path(link).readlink())) for link in _LINKS if Path(link).is_symlink()]
        return (
            *(word for inside, path in self.files for word in ("--ro-bind", path, inside)),
            *(word for link, target in links for word in ("--symlink", target, link)),
        )


def libraries(program: str, cache: Directory) -> tuple[str, ...]:
    """The libraries of a program, its loader among them, by the names under which the loader opens them.

    The loader itself is asked (ld.so(8), --list), which takes 15 ms; the answer is kept while neither the program nor
    the system's libraries change. A kept answer is a hint: a wrong one costs a start that fails.
    """
    key = (
        f"libraries-{sha256(repr((program_identity(program), program_identity(_LIBRARIES))).encode()).hexdigest()}.json"
    )
    kept = _recall(cache, key)
    if kept is not None and all(map(os.path.exists, kept)):
        return kept
    found = _asked(program)
    cache.write_atomic(key, canonical({"libraries": list(found)}))
    return found


def _asked(program: str) -> tuple[str, ...]:
    done = process.run((LOADER, "--list", program), env={"LC_ALL": "C"}, check=False)
    if (
        done.status != 0
        and _is_elf(program)
        and process.run((LOADER, "--verify", program), env={}, check=False).status == _STATIC
    ):
        return ()
    if done.status != 0:
        failure = process.ProcessError(done, hint=f"look at it: file {program}; ldd {program}")
        why = f"the libraries of {program} can't be found: {failure.cause.strip()}"
        raise MvmnixError(why, hint=failure.hint) from failure
    return tuple(_LINE.findall(done.stdout.decode()))


def _is_elf(program: str) -> bool:
    try:
        with Path(program).open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _recall(cache: Directory, key: str) -> tuple[str, ...] | None:
    def parse(record: Record) -> tuple[str, ...]:
        return record.texts("libraries")

    try:
        return read(parse_json(cache.read(key, _LIMIT)), "libraries", parse)
    except (FileNotFoundError, MalformedError, ValueError):
        return None


def _inside(path: str) -> str:
    """Its path without links in the directories above it: the name itself stays, as the loader looks for it."""
    directory, _, name = path.rpartition("/")
    return f"{_real(directory or '/').rstrip('/')}/{name}"


@functools.cache
def _real(directory: str) -> str:
    return os.path.realpath(directory)
