"""Reads the fields of a plan that its image says too: what is started, with which means, as whom; pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from mvmnix.formats import strict
from mvmnix.model import Posture, User, Verb, Verity, Workload
from mvmnix.plan.kernel_command_line import LONGEST

#: Bounds of a machine: processors, and MiB of memory; a kernel takes the least of it.
MOST_VCPUS: Final = 64
LEAST_MIB: Final = 96
MOST_MIB: Final = 2**20
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PATH: Final = r"/[^\x00\n]{0,4094}"
_UUID: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"


def image(record: strict.Record) -> tuple[str, str, Verity]:
    """The image's name, kernel command line and verity parameters. Raises ValueError."""
    # plan/kernel_command_line.py says in a reason of its own what is wrong with a command line
    return (
        record.text("name", _NAME),
        record.text("kernelCommandLine", limit=4 * LONGEST),
        record.child("verity", _verity),
    )


def _verity(record: strict.Record) -> Verity:
    return Verity(
        root=record.digest("root"),
        salt=bytes.fromhex(record.text("salt", r"([0-9a-f]{2}){0,256}")),
        uuid=record.text("uuid", _UUID),
        data_blocks=record.integer("dataBlocks", 1, 2**40),
        hash_offset=record.integer("hashOffset", Verity.BLOCK, 2**52),
    )


def resources(record: strict.Record) -> tuple[int, int, int]:
    """Processors, MiB of memory and of scratch space."""
    return (
        record.integer("vcpus", 1, MOST_VCPUS),
        record.integer("memoryMiB", LEAST_MIB, MOST_MIB),
        record.integer("scratchMiB", 0, MOST_MIB),
    )


def workload(record: strict.Record) -> Workload:
    """What runs. Raises ValueError."""
    user = record.child("user", lambda it: User(it.integer("uid", 1, 2**32 - 2), it.integer("gid", 1, 2**32 - 2)))
    variables = record.child("environment", environment)
    return Workload(record.texts("command", limit=1024), variables, record.text("directory", _PATH), user)


def environment(record: strict.Record) -> Mapping[str, str]:
    """Read variables by name. Raises ValueError."""
    check_variables(record.names())
    return {name: record.text(name) for name in record.names()}


def check_variables(names: Iterable[str]) -> None:
    """Raises ValueError for what is not the name of a variable."""
    for name in names:
        if not re.fullmatch(_VARIABLE, name):
            raise ValueError(f"{name[:80]!r} is not the name of a variable")


def check_directory(path: str) -> None:
    """Raises ValueError for what is not an absolute path in a guest."""
    if not re.fullmatch(_PATH, path):
        raise ValueError(f"not an absolute path in the guest: {path[:80]!r}")


def access(record: strict.Record) -> tuple[Posture, frozenset[Verb], tuple[int, ...]]:
    """Posture, verbs and ports. Raises ValueError."""
    verbs = record.texts("verbs", "|".join(Verb), len(Verb))
    if list(verbs) != sorted(set(verbs)):
        raise ValueError("the verbs are not sorted, or one is listed twice")
    ports = record.integers("ports", 1, 65_535, 64)
    return record.choice("posture", Posture), frozenset(Verb(verb) for verb in verbs), ports
