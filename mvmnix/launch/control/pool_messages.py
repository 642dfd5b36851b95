"""What a caller asks a launcher about its pools of waiting machines, and what it is answered; pure.

The conversation is that of a start (start_messages.py): a request with its descriptors, `Taken`, then `PoolsKept`, or a
`Failure`. A pool is set by a signed plan, which comes as a descriptor as that of a start does.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mvmnix.formats.strict import Record
from mvmnix.launch.control.own_directories import SHOWN
from mvmnix.plan.fields import MOST_MIB, MOST_VCPUS
from mvmnix.system.log import LEVELS

#: Machines that may wait together, in all pools of a launcher.
MOST_WAITING: Final = 32
#: Characters of what is said about the last machine that couldn't wait.
LONGEST_WHY: Final = 512
_IMAGE: Final = 256


class PoolAction(StrEnum):
    """What is to be done with pools, before those that there are then are listed."""

    SET = "set"
    """Keep so many machines of the plan waiting, in the place of an older pool of the same image and shape."""
    REMOVE = "remove"
    """Have no machine of the image wait any more."""
    LIST = "list"
    """Nothing."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """Do this with pools. `image` is the name of one's image, `count` how many machines are to wait.

    `can_ask` and `log` are as in a `StartRequest`.
    """

    action: PoolAction
    image: str = ""
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

    `why` says why the last one that began to wait didn't come so far; "" where it did.
    """

    image: str
    vcpus: int
    memory_mib: int
    count: int
    waiting: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class PoolsKept:
    """All pools of the launcher, once what was asked is done."""

    pools: tuple[PoolStatus, ...]


def parse_pool_request(record: Record) -> PoolRequest:
    """Read a request. Raises MalformedError, a ValueError."""
    return PoolRequest(
        action=record.choice("action", PoolAction),
        image=record.text("image", limit=_IMAGE),
        count=record.integer("count", 0, MOST_WAITING),
        can_ask=record.flag("canAsk"),
        log=record.text("log", "|".join(("", *LEVELS))),
    )


def parse_pools(record: Record) -> PoolsKept:
    """Read the answer. Raises as `parse_pool_request` does."""
    return PoolsKept(record.each("pools", _pool, MOST_WAITING))


def _pool(record: Record) -> PoolStatus:
    return PoolStatus(
        image=record.text("image", limit=_IMAGE),
        vcpus=record.integer("vcpus", 1, MOST_VCPUS),
        memory_mib=record.integer("memoryMib", 1, MOST_MIB),
        count=record.integer("count", 1, MOST_WAITING),
        waiting=record.integer("waiting", 0, MOST_WAITING),
        why=record.text("why", limit=LONGEST_WHY),
    )
