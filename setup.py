"""Puts the flake into the wheel, as mvmnix/flake (mvmnix/system/own_flake.py); the rest is in pyproject.toml."""

import shutil
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

#: As in mvmnix/system/own_flake.py, which can't be imported here: a build has no project on sys.path (PEP 517).
FLAKE = ("flake.nix", "flake.lock", "modules", "profiles")


class BuildWithFlake(build_py):
    """Copies the package and the flake, from a checkout or an unpacked source distribution."""

    def run(self) -> None:
        """Build into an empty directory: setuptools would take along what an earlier build left there."""
        if self.editable_mode:
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        target = Path(self.build_lib, "mvmnix", "flake")
        target.mkdir()
        for source in map(Path, FLAKE):
            if source.is_dir():
                shutil.copytree(source, target / source, ignore=_left_out)
            else:
                shutil.copy2(source, target)


class SameWheel(bdist_wheel):
    """Archives the same bits whatever the umask is and was. SOURCE_DATE_EPOCH, where it is set, dates all entries."""

    def write_wheelfile(self, *arguments: Any, **options: Any) -> None:
        """Write the last file before all of them are archived."""
        super().write_wheelfile(*arguments, **options)
        for path in Path(self.bdist_dir).rglob("*"):
            if path.is_file():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _left_out(directory: str, _: list[str]) -> set[str]:
    """Compiled Python, and what is compiled there: the names that a .gitignore in this directory has."""
    ignored = Path(directory, ".gitignore")
    return {"__pycache__", *(ignored.read_text().split() if ignored.exists() else ())}


setup(cmdclass={"bdist_wheel": SameWheel, "build_py": BuildWithFlake})
