"""Builds distributions of a tree and installs a wheel, without a network and without what an index has."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Home
from tests.patience import PATIENCE

#: What the entries of a wheel are dated: 14 November 2023.
EPOCH = 1_700_000_000


def build(kind: str, tree: Path, out: Path, umask: int = 0o022) -> Path:
    """The "wheel" or "sdist" of a tree, by the build backend that its pyproject.toml names (PEP 517).

    As with an installer, the tree has `build/` and `mvmnix.egg-info/` afterwards.
    """
    out.mkdir(exist_ok=True)
    script = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH)},
        capture_output=True,
        umask=umask,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return out / done.stdout.decode().splitlines()[-1]


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment with a wheel of mvmnix."""

    place: Path

    @property
    def package(self) -> Path:
        """The installed Python package."""
        (packages,) = self.place.glob("lib/python3.*/site-packages")
        return packages / "mvmnix"

    def run(self, program: str, *arguments: str | Path, home: Home, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
        """Run a program of the virtual environment as this user, to its end."""
        return subprocess.run(
            [self.place / "bin" / program, *arguments],
            env=home.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )


def install(wheel: Path, place: Path) -> Installation:
    """Install a wheel alone. What it depends on is found where these tests have it.

    The checkout is not found there: a .pth file leads to it, and such a file counts in the directory of the virtual
    environment itself only (`site`, in Python's documentation).
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    installation = Installation(place)
    (installation.package.parent / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = (sys.executable, "-m", "pip", "--python", place / "bin/python", "--quiet", "install")
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    return installation
