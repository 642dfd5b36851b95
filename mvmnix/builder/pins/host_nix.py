"""The only place that runs the host's own Nix, as programs that root alone can change, in an environment of our own.

Of a user's settings it reads none: neither NIX_* variables nor nix.conf(5) below a home, which could name programs
(`plugin-files`, `pre-build-hook`). The machine's own nix.conf, in /etc/nix, is root's, and holds. Without `HOME` Nix
would take the one of passwd(5); so each call has an empty directory for one.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mvmnix import process
from mvmnix.errors import MvmnixError
from mvmnix.sandbox.trusted_executables import Candidates, check, locate

#: Debian's; the official installer's, for all users; NixOS's.
NIX: Final = Candidates(
    what="nix",
    paths=("/usr/bin/nix", "/nix/var/nix/profiles/default/bin/nix", "/run/current-system/sw/bin/nix"),
    hint="apt-get install nix-bin",
)


@dataclass(frozen=True, slots=True)
class HostNix:
    """The absolute paths of the host's `nix` and `nix-store`."""

    nix: str
    nix_store: str

    @classmethod
    def find(cls) -> Self:
        """Those of this host. Raises MvmnixError without Nix, RefusedError [state-permissions] as `locate` does."""
        nix = locate(NIX)
        # a link to it, which looks at the name that it is called by; the directory, found good, is root's to change
        store = str(Path(nix).with_name("nix-store"))
        if not Path(store).exists():
            raise MvmnixError(f"there is no nix-store beside {nix}", hint=NIX.hint)
        check(os.path.realpath(store))
        return cls(nix, store)

    def run(self, argv: Sequence[str], *, input_: bytes = b"") -> bytes:
        """What a call of session/nix.py prints. Raises ProcessError with Nix's last words."""
        with tempfile.TemporaryDirectory(prefix="mvmnix-nix-home-") as home:
            env = process.environment(extra={"HOME": home, "NIX_USER_CONF_FILES": ""})
            return process.run(
                argv, env=env, input_=input_, hint="look at what Nix says, and whether it is a whole installation"
            ).stdout
