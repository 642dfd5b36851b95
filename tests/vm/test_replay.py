"""A plan for once and real machines: three launches at the same time, one of which starts; a fourth that leaves."""

import json
from pathlib import Path

import pytest

from tests.conftest import World

pytestmark = pytest.mark.vm


def test_one_of_three_launches_starts(copied: World, tmp_path: Path) -> None:
    bundle = copied.home.signed_plan(tmp_path, "--single-use", "./examples/hello", cwd=copied.tree)
    before = copied.first_run.stdout
    launched = [copied.home.start("launch", bundle) for _ in range(3)]
    told = [process.communicate() for process in launched]
    codes = [process.returncode for process in launched]
    assert sorted(codes) == [0, 126, 126], told
    assert told[codes.index(0)][0] == before
    refusals = [stderr for code, (_, stderr) in zip(codes, told, strict=True) if code == 126]
    assert all(b"refused [replay]" in stderr for stderr in refusals)

    left = copied.home.mvm("launch", "--detach", bundle)
    assert left.returncode == 126
    assert b"refused [replay]" in left.stderr, "the process that would have left says so to the one that waits"

    tail = copied.home.mvm("audit", "tail", "-n", "100").stdout.splitlines()
    records = [record for line in tail if (record := json.loads(line)).get("reasons") == ["replay"]]
    assert [record["kind"] for record in records] == ["refusal"] * 3
    assert copied.home.mvm("audit", "verify").returncode == 0
