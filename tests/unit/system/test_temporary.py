"""Temporary files lie where nobody else can put another one under their names, or nothing is done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.system import temporary


def refused(directory: Path | str) -> str:
    with pytest.raises(RefusedError) as refusal:
        temporary.judged({"TMPDIR": str(directory)})
    assert refusal.value.codes == (ReasonCode.STATE_PERMISSIONS,)
    assert "unset TMPDIR" in refusal.value.reasons[0].hint
    return refusal.value.reasons[0].why


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A directory of another user's: as root one that is given away, else one that all may change."""
    directory = tmp_path / "foreign"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, 1234, 1234)
    else:
        directory.chmod(0o777)
    return directory


def test_what_passes(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    said = {"TMPDIR": str(tmp_path / "link"), "TEMP": "/tmp", "TMP": "", "HOME": "/elsewhere"}
    assert temporary.judged(said) == {"TMPDIR": str(tmp_path.resolve()), "TEMP": str(Path("/tmp").resolve())}
    assert temporary.judged({"TMPDIR": str(tmp_path / "gone/too")}) == {"TMPDIR": str(tmp_path.resolve() / "gone/too")}
    assert temporary.judged({"TMPDIR": "/"}) == {"TMPDIR": "/"}
    assert temporary.judged({}) == {}


def test_another_users_directory(foreign: Path) -> None:
    refused(foreign)


@pytest.mark.parametrize("below", ["below", "gone"])
def test_below_another_users_directory(foreign: Path, below: str) -> None:
    (foreign / "below").mkdir()
    assert str(foreign) in refused(foreign / below)


def test_a_link_to_another_users_directory(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(foreign)
    refused(tmp_path / "link")


def test_a_directory_that_all_may_change(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert "others than its owner may write to it" in refused(tmp_path)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no directory" in refused(tmp_path / "file")


@pytest.mark.parametrize("name", temporary.VARIABLES)
def test_no_command_goes_on(foreign: Path, name: str) -> None:
    environment = {"HOME": str(foreign.parent), name: str(foreign)}
    argv = (sys.executable, "-m", "mvmnix.cli", "--version")
    done = subprocess.run(argv, env=environment, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (RefusedError.exit_code, "")
    assert "[state-permissions]" in done.stderr
