"""The fuzzer of the control protocols replays its seeds and finds a planted fault; `make fuzz` has it fuzz."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.patience import EVENT_PATIENCE, PATIENCE
from tests.repository import ROOT

pytestmark = pytest.mark.integration

#: Seconds that it runs; without any it replays its corpus once.
SECONDS = int(os.environ.get("MVMNIX_FUZZ_SECONDS", "0"))
REPLAY = (f"-max_total_time={SECONDS}",) if SECONDS else ("-runs=0",)
SEARCH = (f"-max_total_time={PATIENCE}",)


def fuzz(directory: Path, house: Path, how: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    """Run it once, over the modules of `house`; what it finds worth keeping goes into the test's directory."""
    grown = directory / "grown"
    grown.mkdir()
    target = house / "tests/fuzz/control_target.py"
    limits = (f"-timeout={EVENT_PATIENCE}", "-rss_limit_mb=1024", "-max_len=4096", f"-artifact_prefix={directory}/")
    return subprocess.run(
        [sys.executable, str(target), *how, *limits, str(grown), str(seeds.CONTROL)],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(house), "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=SECONDS + 2 * PATIENCE,
        check=False,
    )


def test_the_control_protocols(tmp_path: Path) -> None:
    done = fuzz(tmp_path, ROOT, REPLAY)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_message_with_two_meanings_is_found(tmp_path: Path) -> None:
    house = tmp_path / "house"
    for name in ("mvmnix", "tests"):
        shutil.copytree(ROOT / name, house / name, ignore=shutil.ignore_patterns("__pycache__", "vm", "hostile"))
    module = house / "mvmnix/launch/control/start_messages.py"
    text, planted = 'Reply(record.text("text", limit=LONGEST_TEXT))', 'Reply(record.text("text") + "x")'
    assert module.read_text().count(text) == 1
    module.write_text(module.read_text().replace(text, planted))
    done = fuzz(tmp_path, house, SEARCH)
    assert done.returncode != 0
    assert "it has two meanings" in done.stderr + done.stdout
