"""What a caller asks a launcher about its pools of waiting machines, and what it is answered; pure.

The conversation is that of a start (start_messages.py): a request with its descriptors, `Taken`, then `PoolsKept`, or a
`Failure`. A pool is set by a signed plan, which comes as a descriptor as that of a start does.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.formats.strict import Record, canonical, parse_json, read
from mvmnix.launch.control.own_directories import SHOWN
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.system.log import LEVELS

if TYPE_CHECKING:
    from mvmnix.plan.plan import Plan

#: Machines that may wait together, in all pools of a launcher.
MOST_WAITING: Final = 32
#: Characters of what is said about the last machine that couldn't wait.
LONGEST_WHY: Final = 512
#: MiB of memory that all machines which wait may have together: half of the host's.
_MOST_MEMORY: Final = (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20) // 2
_IMAGE: Final = 256
_ID: Final = "[0-9a-f]{64}"


class PoolAction(StrEnum):
    """What is to be done with pools, before those that there are then are listed."""

    SET = "set"
    """Keep so many machines of the plan waiting, in the place of an older pool of the same image and shape."""
    REMOVE = "remove"
    """Have no machine of the image wait any more, or none of one pool."""
    LIST = "list"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """Do this with pools. `image` is the name of one's image, `count` how many machines are to wait.

    `pool` is the `id` of the only pool that is to be removed; "" for all of the image. `can_ask` and `log` are as in a
    `StartRequest`.
    """

    action: PoolAction
    image: str = ""
    pool: str = ""
    count: int = 0
    can_ask: bool = False
    log: str = ""

    @property
    def descriptors(self) -> tuple[str, ...]:
        """What each descriptor is, in the order in which they come."""
        return (*SHOWN, "plan") if self.action is PoolAction.SET else SHOWN


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool: its image by name, processors, MiB, how many machines are to wait and how many do.

    `id` is the SHA-256 of all that its machines have in common (`pool_name`), in hexadecimal digits. `why` says why the
    last one that began to wait didn't come so far; "" where it did.
    """

    id: str
    image: str
    vcpus: int
    memory_mib: int
    count: int
    waiting: int
    why: str = ""

    @property
    def remedy(self) -> str:
        """What has machines wait again, in words for the user; "" where nothing went wrong."""
        shape = ("-n", str(self.count), "-c", str(self.vcpus), "-m", f"{self.memory_mib}M")
        return f"set it anew: {shell_command('mvm', 'pool', 'set', f'image:{self.image}', *shape)}" if self.why else ""


@dataclass(frozen=True, slots=True)
class PoolsKept:
    """All pools of the launcher, once what was asked is done."""

    pools: tuple[PoolStatus, ...]


def pool_name(plan: "Plan") -> bytes:
    """What a pool is known by whose machines plans of this image and shape may claim, in canonical JSON."""
    return canonical(
        {
            "image": plan.image,
            "manifest": "" if plan.manifest is None else plan.manifest.hex,
            "vcpus": plan.vcpus,
            "memoryMiB": plan.memory_mib,
            "commandLine": plan.command_line,
        }
    )


def pool_status(name: bytes, count: int, waiting: int = 0, why: str = "") -> PoolStatus:
    """Return what is said of the pool of this name. Raises MalformedError for what `pool_name` didn't write."""

    def parse(record: Record) -> PoolStatus:
        for unused in ("manifest", "commandLine"):
            record.text(unused)
        image, vcpus = record.text("image"), record.integer("vcpus", 1, MOST_VCPUS)
        memory_mib = record.integer("memoryMiB", LEAST_MIB, MOST_MIB)
        return PoolStatus(Digest.of(name).hex, image, vcpus, memory_mib, count, waiting, why)

    return read(parse_json(name), "pool", parse)


def check_room(wanted: PoolStatus, found: Iterable[PoolStatus]) -> None:
    """Check that a pool may be set beside those that were found, or in the place of one. Raises UsageError."""
    others = [each for each in found if each.id != wanted.id]
    waiting = sum(each.count for each in others)
    if wanted.count + waiting > MOST_WAITING:
        why = f"{MOST_WAITING} machines may wait in all pools together, and other pools have {waiting}"
        raise UsageError(why, hint="see mvm pool ls; end one: mvm pool rm IMAGE")
    memory = sum(each.count * each.memory_mib for each in (wanted, *others))
    if memory > _MOST_MEMORY:
        why = f"the machines that wait could take {memory} MiB, and half of this host's memory is {_MOST_MEMORY} MiB"
        raise UsageError(why, hint="let fewer of them wait, or smaller ones")


def parse_pool_request(record: Record) -> PoolRequest:
    """Read a request. Raises MalformedError, a ValueError."""
    return PoolRequest(
        action=record.choice("action", PoolAction),
        image=record.text("image", limit=_IMAGE),
        pool=record.text("pool", f"({_ID})?"),
        count=record.integer("count", 0, MOST_WAITING),
        can_ask=record.flag("canAsk"),
        log=record.text("log", "|".join(("", *LEVELS))),
    )


def parse_pools(record: Record) -> PoolsKept:
    """Read the answer. Raises as `parse_pool_request` does."""
    return PoolsKept(record.each("pools", _pool, MOST_WAITING))


def _pool(record: Record) -> PoolStatus:
    return PoolStatus(
        id=record.text("id", _ID),
        image=record.text("image", limit=_IMAGE),
        vcpus=record.integer("vcpus", 1, MOST_VCPUS),
        memory_mib=record.integer("memoryMib", 1, MOST_MIB),
        count=record.integer("count", 1, MOST_WAITING),
        waiting=record.integer("waiting", 0, MOST_WAITING),
        why=record.text("why", limit=LONGEST_WHY),
    )
