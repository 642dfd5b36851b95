"""What every jail of this house asks of bubblewrap, and how one gets it; nothing is started here.

There are two jails: one around programs that read strangers' bytes (`builder/fetch/jail.py`), and one around
hypervisors (`launch/jail/`). They hold different things; what is taken away is the same.
"""

from typing import Final

INSTALL: Final = "apt-get install bubblewrap"
#: A user and group that nobody else is, as it looks from inside.
NOBODY: Final = "65534"
#: bwrap(1): namespaces of its own for everything, no capability, no terminal of the caller's, death with the caller.
_TAKEN: Final = (
    *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--hostname", "jail"),
)


def floor(uid: str, gid: str) -> tuple[str, ...]:
    """The same for whoever has these ids to itself, inside."""
    return (*_TAKEN, "--uid", uid, "--gid", gid)


FLOOR: Final = floor(NOBODY, NOBODY)
