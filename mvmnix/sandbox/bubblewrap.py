"""The options of bubblewrap that every sandbox has, and where its program is; starts nothing."""

from typing import Final

from mvmnix.sandbox.trusted_executables import Candidates

INSTALL: Final = "apt-get install bubblewrap"
BUBBLEWRAP: Final = Candidates("bubblewrap", ("/usr/bin/bwrap", "/run/current-system/sw/bin/bwrap"), INSTALL)
#: The uid and gid that a sandboxed program sees as its own.
NOBODY: Final = "65534"
#: bwrap(1): a namespace of each kind, no capability, a session of its own; killed when its parent ends.
_TAKEN: Final = (
    *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--hostname", "jail"),
)


def floor(uid: str, gid: str) -> tuple[str, ...]:
    """The common options, with these ids inside."""
    return (*_TAKEN, "--uid", uid, "--gid", gid)


FLOOR: Final = floor(NOBODY, NOBODY)
