"""The list of claims: what `mvm lint claims --list` prints, with results of tests where there are any."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.repository import ROOT


def text(junit: Sequence[Path] = ()) -> str:
    """Return the table of all claims, in Markdown; `junit` are files of results."""
    results = [argument for path in junit for argument in ("--junit", str(path))]
    argv = [sys.executable, "-P", "-m", "mvmnix.cli", "lint", "claims", "--list", *results]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode > 1:  # 1: claims without a witness are in the list, too
        raise RuntimeError(done.stderr)
    return done.stdout
