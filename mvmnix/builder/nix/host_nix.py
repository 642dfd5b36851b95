"""The only place that runs the host's own Nix, as programs that root alone can change, in an environment of our own.

Each call names the store that it works on (`NixStore`); Nix never chooses one.

Of a user's settings it reads none: neither NIX_* variables nor nix.conf(5) below a home, which could name programs
(`plugin-files`, `pre-build-hook`). The machine's own nix.conf, in /etc/nix, is root's, and holds. Without `HOME` Nix
would take the one of passwd(5); so each call has an empty directory for one.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from mvmnix.builder.nix.nix_commands import host_ask_store
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.model import StorePath
from mvmnix.sandbox.trusted_executables import Candidates, check_program, locate
from mvmnix.system import process, trusted_path
from mvmnix.system.child_causes import NAMESPACES_HINT, Cause
from mvmnix.system.roots import Roots

# Decides which Nix store the host's Nix works on, by what this process may do there; starts no program.
#
# No uid decides. The steps, as in docs/nix.md:
#
# 1. The machine's store counts only where root and this user alone can change it: its files, its database, its socket.
# 2. `daemon`: a nix-daemon answers this process. It keeps the machine's own rules: its build users, its nix.conf.
# 3. `shared`: this process may write to the store and its database, by access(2) as the effective identity; where one
#    of them is missing, to the directory above it.
# 4. `own`: else a store below $XDG_DATA_HOME/mvmnix, which this user alone writes to. Its paths are named /nix/store/…
#    as everywhere, and lie below its root. Nix would run programs in a namespace in which they are at these names; no
#    sandbox can be made in there (mvmnix/system/unmapped_owners.py): mvm reads what was built from outside.

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
        return f"let Nix check its store: nix-store {shlex.join(self.options)} --verify --check-contents"

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


#: So long, in seconds, a nix-daemon may take to answer.
_ANSWER_SECONDS: Final = 20
#: Debian's; the official installer's, for all users; NixOS's.
NIX: Final = Candidates(
    what="nix",
    paths=("/usr/bin/nix", "/nix/var/nix/profiles/default/bin/nix", "/run/current-system/sw/bin/nix"),
    hint="apt-get install nix-bin",
)
#: What to do about what ended Nix, by its kind. `where` is the store.
_HINTS: Final[Mapping[Cause, str]] = {
    Cause.MISSING: NIX.hint,
    Cause.DISK_FULL: "make room where {where} lies, and try again",
    Cause.NAMESPACES: f"builds need user namespaces: {NAMESPACES_HINT}",
    Cause.DENIED: "`mvm doctor` says which Nix store is used and why; see who owns that file (ls -ld)",
    Cause.READ_ONLY: "`mvm doctor` says which Nix store is used and why; `findmnt` says what is mounted read-only",
}
#: What else Nix (2.26) says of what failed → what to do. The first that fits counts.
_ADVICE: Final = (
    (r"is pinned but not in the store", "mvm pin fetch"),
    (r"daemon|reading from file|Connection re", "look at the nix-daemon's log: journalctl -u nix-daemon"),
    (r"corrupt|hash mismatch|differs", "{check}"),
)


@dataclass(frozen=True, slots=True)
class HostNix:
    """The absolute paths of the host's `nix` and `nix-store`, and the store that they work on."""

    nix: str
    nix_store: str
    store: NixStore

    @classmethod
    def find(cls, roots: Roots) -> Self:
        """Those of this host, and the store for this process; one of the user's own is made, as a directory, if needed.

        Raises MvmnixError without Nix, RefusedError [state-permissions] as `locate` and `Directory` do.
        """
        found = cls.look(roots)
        if found.store.kind is StoreKind.OWN:
            roots.data.child(OWN).close()
        return found

    @classmethod
    def look(cls, roots: Roots) -> Self:
        """As `find`, and changes nothing."""
        nix = locate(NIX)
        # a link to it, which looks at the name that it is called by; the directory, found good, is root's to change
        beside = str(Path(nix).with_name("nix-store"))
        if not Path(beside).exists():
            raise MvmnixError(f"there is no nix-store beside {nix}", hint="install that Nix again: it isn't whole")
        check_program(os.path.realpath(beside))
        asking = cls(nix, beside, NixStore(StoreKind.DAEMON, "it is asked"))
        return replace(asking, store=choose(f"{roots.paths['data']}/{OWN}", asking._refusal))

    def _refusal(self) -> str:
        """Why the store can't be opened, in Nix's words; "" where it can."""
        try:
            self.run(host_ask_store(self.nix), timeout=_ANSWER_SECONDS)
        except process.ProcessError as error:
            return f"its nix-daemon can't be used ({error.cause or 'it says nothing'})"
        return ""

    def run(self, argv: Sequence[str], *, input_: bytes = b"", timeout: float | None = None) -> bytes:
        """What a call of nix_commands.py prints, on this store. Raises ProcessError with the cause that Nix names."""
        with tempfile.TemporaryDirectory(prefix="mvmnix-nix-home-") as home:
            env = process.environment(extra={"HOME": home, "NIX_USER_CONF_FILES": ""})
            words = (argv[0], *self.store.options, *argv[1:])
            try:
                return process.run(words, env=env, input_=input_, timeout=timeout).stdout
            except process.ProcessError as error:
                error.hint = self._advice(error)
                raise

    def _advice(self, error: process.ProcessError) -> str:
        """What to do about a Nix that failed: by what ended it, else by the line that names what failed."""
        values = {"where": self.store.where, "check": self.store.check}
        if error.kind in _HINTS:
            return _HINTS[error.kind].format(**values)
        for pattern, advice in _ADVICE:
            if re.search(pattern, error.cause):
                return advice.format(**values)
        if error.kind is not Cause.OWN:
            return error.hint
        return f"that line is Nix's own; it worked on the store in {self.store.where} ({self.store.kind}: `mvm doctor`)"
