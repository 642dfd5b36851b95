"""Checkpoint anchors as the user meets them: which one objects, how to begin anew, and what asks them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.station import Said, Station


def hello(station: Station) -> Said:
    return station.mvm("run", f"path:{station.path}/flakes/hello", "--", "true")


def configure(station: Station, *tables: str) -> None:
    text = "version = 1\n" + "".join(f"[[anchors]]\n{table}\n" for table in tables)
    (station.config / "config.toml").write_text(text)
    (station.config / "config.toml").chmod(0o600)


def usb(path: Path, *, required: bool = True) -> str:
    return f'name = "usb"\nrequired = {str(required).lower()}\nfile = "{path}"'


@pytest.fixture
def kept(settled: Station, tmp_path: Path) -> Station:
    """One run, whose checkpoints a file and a branch have."""
    settled.flake()
    (tmp_path / "usb").mkdir(mode=0o700)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "kept.git")], check=True)
    branch = f'name = "branch"\nrequired = false\ngit = "{tmp_path}/kept.git"\nbranch = "hosts/one"'
    configure(settled, usb(tmp_path / "usb/checkpoint"), branch)
    assert hello(settled).code == 0
    return settled


def typed(said: Said) -> None:
    """Do what the hint of a refusal says."""
    (hint,) = re.findall("next: (.*)", said.err)
    for command in re.findall("`([^`]*)`", hint):
        subprocess.run(["sh", "-c", command], check=True)


def test_a_log_that_is_gone_is_begun_anew_as_the_hints_say(kept: Station, tmp_path: Path) -> None:
    audit = kept.state / "audit"
    audit.rename(kept.state / "audit.bad")
    said = hello(kept)
    assert (said.code, "refused [log-mismatch]" in said.err) == (126, True)
    assert f"the anchor usb ({tmp_path}/usb/checkpoint)" in said.err
    assert str(audit) not in said.err.split("next: ")[1], "what is gone can't be put away"
    assert not audit.exists(), "nothing is left behind by a refusal"
    typed(said)
    said = hello(kept)
    assert f"the anchor branch (hosts/one of {tmp_path}/kept.git)" in said.err
    typed(said)
    said = hello(kept)
    assert (said.code, "mvm audit new-log" in said.err) == (126, True)
    assert kept.mvm("audit", "new-log").code == 0
    assert hello(kept).code == 0
    assert kept.mvm("audit", "verify").out.startswith("4 records verify")
    assert (tmp_path / "usb/checkpoint.bad").exists()


def test_an_older_log_is_put_away_with_what_the_anchors_keep(kept: Station, tmp_path: Path) -> None:
    audit = kept.state / "audit"
    shutil.copytree(audit, tmp_path / "before")
    assert hello(kept).code == 0
    shutil.rmtree(audit)
    shutil.copytree(tmp_path / "before", audit)
    for who in ("usb", "branch"):
        said = hello(kept)
        assert (said.code, f"the anchor {who}" in said.err) == (126, True), said
        typed(said)
    assert kept.mvm("audit", "new-log").code == 0
    assert hello(kept).code == 0
    assert (kept.state / "audit.bad").is_dir()


def test_a_directory_that_was_there_stays(kept: Station) -> None:
    audit = kept.state / "audit"
    audit.rename(kept.state / "audit.bad")
    audit.mkdir(mode=0o700)
    assert hello(kept).code == 126
    assert audit.is_dir()


@pytest.mark.parametrize("way", ["file", "git"])
def test_one_that_can_not_be_asked_is_said_once_and_in_full(settled: Station, tmp_path: Path, way: str) -> None:
    settled.flake()
    gone = tmp_path / "gone/checkpoint"
    where = {"file": f'file = "{gone}"', "git": f'git = "{gone}"\nbranch = "main"'}[way]
    configure(settled, f'name = "usb"\nrequired = false\n{where}')
    said = hello(settled)
    assert said.code == 0
    (line,) = [line for line in said.err.splitlines() if "anchor-unavailable" in line]
    assert line.startswith("mvm: the log's anchor usb: ")
    assert str(gone) in line
    assert "Errno" not in line
    assert line.count("Next: ") == 1


# -- who asks them


def findings(station: Station) -> dict[str, tuple[str, str]]:
    found = station.mvm("doctor", "--json").answer("doctor")
    return {one["what"]: (one["health"], one["said"]) for one in found if one["what"].startswith("anchor ")}


def test_the_doctor_asks_each(kept: Station, tmp_path: Path) -> None:
    assert findings(kept) == {f"anchor {who}": ("good", "has seen 3 of 3 records") for who in ("usb", "branch")}
    assert kept.mvm("doctor").code == 0
    (tmp_path / "kept.git").rename(tmp_path / "moved.git")
    (kept.state / "audit").rename(kept.state / "audit.bad")
    found = findings(kept)
    assert (found["anchor usb"][0], found["anchor branch"][0]) == ("bad", "note")
    assert "the log is gone" in found["anchor usb"][1]
    assert kept.mvm("doctor").code == 1


def test_the_doctor_and_one_that_is_required_and_not_there(kept: Station, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "usb")
    health, said = findings(kept)["anchor usb"]
    assert (health, str(tmp_path / "usb/checkpoint") in said) == ("bad", True)


def test_the_doctor_before_the_first_run(station: Station, tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir(mode=0o700)
    station.config.mkdir(mode=0o700, parents=True, exist_ok=True)
    configure(station, usb(tmp_path / "usb/checkpoint"))
    assert findings(station)["anchor usb"][0] == "note"


def test_what_each_says_of_the_whole_log(kept: Station, tmp_path: Path) -> None:
    audit = kept.state / "audit"
    said = kept.mvm("audit", "verify")
    assert said.code == 0
    assert "mvm: the anchor usb has seen 3 of 3 records" in said.err
    assert "mvm: the anchor branch has seen 3 of 3 records" in said.err
    shutil.copytree(audit, tmp_path / "before")
    assert hello(kept).code == 0
    shutil.rmtree(audit)
    shutil.copytree(tmp_path / "before", audit)
    said = kept.mvm("audit", "verify")
    assert said.code == 1
    assert said.err.count("it was rolled back: 6 records were seen elsewhere, 3 are left") == 2
    assert kept.mvm("audit", "verify", "--json").answer("log")["verdict"] == "mismatch"
    audit.rename(tmp_path / "gone")
    assert kept.mvm("audit", "verify").code == 1, "that it is gone is a mismatch too"
    assert kept.mvm("audit", "verify", "--directory", tmp_path / "gone").code == 0, "theirs is another log"


def test_one_that_can_not_be_asked_is_no_verdict_on_the_log(kept: Station, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "usb")
    said = kept.mvm("audit", "verify")
    assert (said.code, f"{tmp_path}/usb/checkpoint" in said.err) == (0, True)


def test_one_that_gives_nothing_back(settled: Station) -> None:
    settled.flake()
    configure(settled, 'name = "post"\nrequired = true\ncommand = ["/bin/true"]\nseconds = 10')
    assert hello(settled).code == 0
    assert findings(settled)["anchor post"] == ("note", "takes checkpoints, and gives none back")
    assert os.listdir(settled.state / "audit")  # noqa: PTH208
