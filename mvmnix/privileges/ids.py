"""The uids and gids of the host that mvm hands out as root; no other program hands out numbers in these ranges.

They lie beyond users, subordinate ids and what systemd takes for services and containers (its UIDS-GIDS document:
1879048192 and up is unused).
"""

from pathlib import Path
from typing import Final

from mvmnix import caller

#: Users 0 to 65535 of a container.
FIRST_OF_CONTAINER: Final = 1_900_000_000
CONTAINER_COUNT: Final = 65_536
#: What runs a container, outside of it.
CONTAINER_RUNTIME: Final = FIRST_OF_CONTAINER + CONTAINER_COUNT
#: The first uid and gid for sandboxes, and how many there are.
FIRST_OF_POOL: Final = 1_900_544_000
POOL_COUNT: Final = 4096
#: The directory of their lease files: they belong to the whole machine, whatever state directory a command has.
#: It keeps the name by which what an older mvm left there is cleaned up.
POOL_DIRECTORY: Final = "/run/mvmnix/cells"
#: The one below these is mvm's own.
MVM: Final = caller.MVM


def owned(first: int, count: int, *, uid_map: str = "/proc/self/uid_map") -> bool:
    """Whether this user namespace has these uids (user_namespaces(7))."""
    ranges = (tuple(map(int, line.split())) for line in Path(uid_map).read_text(encoding="ascii").splitlines())
    return any(begin <= first and first + count <= begin + length for begin, _outside, length in ranges)
