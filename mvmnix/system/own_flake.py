"""Says where this installation's own flake is, from which builder images are made and which `mvm init` copies."""

from pathlib import Path
from typing import Final

#: What the flake consists of; other things may lie beside it.
FILES: Final = ("flake.nix", "flake.lock", "modules", "profiles")
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def directory() -> Path:
    """The directory that has FILES: `flake` in the package, as a wheel brings it (setup.py), else beside the package.

    Beside it they are in a checkout and in the packages for Nix. Whether they are there is not looked at.
    """
    installed = _PACKAGE / "flake"
    return installed if installed.is_dir() else _PACKAGE.parent
