"""The same image in a container, where the policy says that word too, and nowhere else."""

import json
from pathlib import Path

import pytest

from tests.conftest import World
from tests.hostile.rig import replaced

pytestmark = pytest.mark.vm

WORD = "container: not a microVM"


def test_a_container_is_refused_until_the_policy_allows_it_and_called_one_then(copied: World, tmp_path: Path) -> None:
    refused = copied.home.mvm("run", "--backend", "container", "./examples/hello", cwd=copied.tree)
    assert refused.returncode == 126
    assert b"[isolation-unavailable]" in refused.stderr
    policy = copied.home.config / "trust.toml"
    replaced(policy, policy.read_bytes().replace(b'isolation = "microvm"', f'isolation = "{WORD}"'.encode()))
    done = copied.home.mvm("run", "--backend", "container", "--evidence", "./examples/hello", cwd=copied.tree)
    assert (done.returncode, done.stdout) == (0, b"Hello from a verified microVM.\n"), done.stderr.decode()
    assert f"mvm: {WORD}".encode() in done.stderr
    log = [json.loads(line) for line in copied.home.mvm("audit", "tail").stdout.splitlines()]
    start = [record for record in log if record["kind"] == "start"][-1]
    assert start["backend"] == WORD
    assert copied.home.mvm("logs", start["machine"]).stdout == done.stdout
