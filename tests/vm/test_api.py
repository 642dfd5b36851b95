"""What examples/api.py does with the application alone: an image, a verdict, two machines and their receipts."""

import re
import subprocess
import sys

import pytest

from tests.conftest import World
from tests.patience import PATIENCE

pytestmark = pytest.mark.vm


def test_the_example_runs_without_the_command_line(copied: World) -> None:
    done = subprocess.run(
        [sys.executable, "-P", copied.tree / "examples/api.py"],
        env=copied.home.environment,
        cwd="/",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    verified, *lines = said.splitlines()
    assert verified == "verified: hello, SLSA Build L1"
    assert [line for line in lines if not line.startswith("Receipt(")] == ["Hello from a verified microVM."] * 2
    receipts = [line for line in lines if line.startswith("Receipt(")]
    assert len(set(receipts)) == 2, "two machines of one plan"
    assert all("GUEST_EXIT" in receipt for receipt in receipts)
    assert done.stderr == b"", "without a frontend nothing is shown"
    listed = copied.home.mvm("ps", "--all", "--quiet").stdout.decode().split()
    machines = {match[1] for receipt in receipts if (match := re.search("machine='([^']+)'", receipt))}
    assert (len(machines), machines <= set(listed)) == (2, True)
