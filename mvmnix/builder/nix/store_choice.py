"""Decides which Nix store the host's Nix works on, by what this process may do there; starts no program.

No uid decides. The steps, as in docs/reference/nix.md:

1. The machine's store counts only where root and this user alone can change it: its files, its database, its socket.
2. `daemon`: a nix-daemon answers this process. It keeps the machine's own rules: its build users, its nix.conf.
3. `shared`: this process may write to the store and its database, by access(2) as the effective identity; where one
   of them is missing, to the directory above it.
4. `own`: else a store below $XDG_DATA_HOME/mvmnix, which this user alone writes to. Its paths are named /nix/store/…
   as everywhere, and lie below its root. Nix would run programs in a namespace in which they are at these names; no
   sandbox can be made in there (mvmnix/system/unmapped_owners.py): mvm reads what was built from outside.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mvmnix.errors import RefusedError
from mvmnix.formats.escaping import shell_command
from mvmnix.model import StorePath
from mvmnix.system import trusted_path

#: Where the machine's store is, and the name of a user's own in `Roots.data`.
SHARED: Final = "/nix"
OWN: Final = "nix"
#: A build without build users has a sandbox, or Nix stops (nix.conf(5)).
_SANDBOXED: Final = ("--option", "sandbox", "true", "--option", "sandbox-fallback", "false")
_NO_BUILD_USERS: Final = ("--option", "build-users-group", "")


class StoreKind(StrEnum):
    """Who keeps the store."""

    DAEMON = "daemon"
    SHARED = "shared"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class NixStore:
    """A store, and why it is the one; `root` is the absolute path of a user's own, and empty for the machine's."""

    kind: StoreKind
    why: str
    root: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """What every call of Nix has on its command line, before all else (nix3-help-stores)."""
        match self.kind:
            case StoreKind.DAEMON:
                return ("--store", "daemon")
            case StoreKind.SHARED:
                return ("--store", "local", *_NO_BUILD_USERS)
            case StoreKind.OWN:
                return ("--store", f"local?root={quote(self.root)}", *_NO_BUILD_USERS, *_SANDBOXED)

    def on_host(self, path: StorePath) -> Path:
        """Where a path of the store lies for this process, outside of any namespace of Nix's."""
        return Path(f"{self.root}{path}")

    @property
    def check(self) -> str:
        """How a user has Nix check this store, for messages."""
        return f"let Nix check its store: {shell_command('nix-store', *self.options, '--verify', '--check-contents')}"

    @property
    def where(self) -> str:
        """The directory with the store's files, for messages."""
        return f"{self.root}/nix/store"


def choose(own: str, refusal_of_daemon: Callable[[], str], *, shared: str = SHARED) -> NixStore:
    """The store for this process. `own` is the absolute path of the user's own, which need not exist.

    `refusal_of_daemon` asks the daemon whose socket is there, and says why it can't be used, or "".
    """
    store, state = f"{shared}/store", f"{shared}/var/nix"
    socket = f"{state}/daemon-socket/socket"
    # 1. who could have changed it
    for directory in (store, f"{state}/db", os.path.dirname(socket)):  # noqa: PTH120 - a text
        if why := _doubt(directory):
            return NixStore(StoreKind.OWN, f"{store} is not used: {why}", own)
    # 2. the daemon
    against = "no nix-daemon listens"
    if os.path.exists(socket):  # noqa: PTH110
        against = refusal_of_daemon() if _may_write(socket) else f"{socket} may not be written to"
        if not against:
            return NixStore(StoreKind.DAEMON, f"a nix-daemon answers at {socket}")
    # 3. the store itself
    closed = [path for path in (store, state, f"{state}/db") if not _may_write(path)]
    if not closed:
        return NixStore(StoreKind.SHARED, f"uid {os.geteuid()} may write to {store} and {state}")
    # 4. a store of the user's own
    return NixStore(StoreKind.OWN, f"uid {os.geteuid()} may not write to {closed[0]}, and {against}", own)


def _doubt(directory: str) -> str:
    """Why another user could have changed what is in a directory; "" where it is root's or ours, or isn't there."""
    try:
        trusted_path.judge_container(directory)
    except FileNotFoundError:
        return ""
    except RefusedError as error:
        return f"{error.reasons[0].what}: {error.reasons[0].why}"
    except OSError as error:
        return f"{directory}: {error.strerror}"
    return ""


def _may_write(path: str) -> bool:
    """By access(2); of what is missing, the nearest directory above it."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)  # noqa: PTH120 - a text
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0), effective_ids=True)  # noqa: PTH112
