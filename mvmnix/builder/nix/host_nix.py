"""The only place that runs the host's own Nix, as programs that root alone can change, in an environment of our own.

Each call names the store that it works on (`NixStore`); Nix never chooses one.

Of a user's settings it reads none: neither NIX_* variables nor nix.conf(5) below a home, which could name programs
(`plugin-files`, `pre-build-hook`). The machine's own nix.conf, in /etc/nix, is root's, and holds. Without `HOME` Nix
would take the one of passwd(5); so each call has an empty directory for one.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from mvmnix.builder.nix.nix_commands import host_ask_store
from mvmnix.builder.nix.store_choice import OWN, NixStore, StoreKind, choose
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.trusted_executables import Candidates, check_program, locate
from mvmnix.system import process
from mvmnix.system.child_causes import NAMESPACES_HINT, Cause
from mvmnix.system.roots import Roots

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
