"""Benchmarks measure a plain user's mvm and refuse root."""

import subprocess
import sys

import pytest

from tests.patience import PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.integration


@pytest.mark.root("a plain user's benchmarks begin")
def test_benchmarks_are_a_plain_user_s() -> None:
    argv = [sys.executable, "-m", "bench", "figures"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, "run it as a plain user" in done.stderr) == (2, True), done.stderr
