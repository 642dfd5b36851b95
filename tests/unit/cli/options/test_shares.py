"""`--share`: what was typed gets into the plan, what is dangerous is refused before anything is built, and shown."""

import os
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode
from mvmnix.plan.limits import PlanLimits
from mvmnix.plan.share import Access, Danger, Share
from tests.unit.cli.plans import drafted, read_plan, signed
from tests.unit.cli.station import Station


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "shared"
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, 61_005, 61_005)
    return made


def test_what_was_typed_is_in_the_plan(settled: Station, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    typed = ("shared:/work", f"{data}:/out:rw", "/srv/is/not/there:/set:ro,follow")
    found = drafted(settled, *(f"--share={it}" for it in typed)).shares
    assert found == (
        Share(str(data), "/work"),
        Share(str(data), "/out", Access.READ_WRITE),
        Share("/srv/is/not/there", "/set", follow=True),
    )


def test_what_is_written_may_be_limited(settled: Station, data: Path) -> None:
    said = settled.mvm("plan", "create", settled.flake(), "--share-limit=7", f"--share={data}:/out")
    assert (said.code, "may write to none" in said.err, "--share SRC:DST:rw" in said.err) == (2, True, True)
    assert drafted(settled, "--share-limit=7", f"--share={data}:/out:rw").limits == PlanLimits(shared_kib=7)


@pytest.mark.parametrize("command", ["run", "plan create"])
def test_a_danger_is_refused_before_anything_is_built(settled: Station, data: Path, command: str) -> None:
    (data / ".gnupg").mkdir()
    said = settled.mvm(*command.split(), settled.flake(), f"--share={data}:/out:rw")
    assert said.code == 126
    assert f"refused [{ReasonCode.SHARE_FORBIDDEN}]" in said.err
    assert f"--share {data}:/out:rw,acknowledge=credentials" in said.err


@pytest.mark.parametrize("own", ["state", "config"])
def test_mvms_own_directories_are_refused(settled: Station, own: str) -> None:
    where = {"state": settled.state, "config": settled.config}[own].resolve()
    said = settled.mvm("plan", "create", settled.flake(), f"--share={where}:/out")
    assert said.code == 126
    assert "mvm-state" in said.err


def test_a_link_is_refused_with_where_it_leads(settled: Station, data: Path) -> None:
    (data.parent / "link").symlink_to(data)
    said = settled.mvm("plan", "create", settled.flake(), f"--share={data.parent / 'link'}:/out")
    assert said.code == 126
    assert f"--share {data}:/out" in said.err


def test_an_acknowledged_one_is_shown(settled: Station, data: Path) -> None:
    (data / ".gnupg").mkdir()
    bundle = signed(settled, f"--share={data}:/out:acknowledge=credentials")
    assert read_plan(settled.path / "plan.json").shares[0].acknowledged == (Danger.CREDENTIALS,)
    shown = settled.mvm("plan", "show", bundle).err
    assert f"shared directory {data}: the guest reads it as /out" in shown
    assert f"acknowledged for {data}" in shown


@pytest.mark.parametrize("text", ["nothing", "/srv:relative", "/srv:/data:rx", "/srv:/proc/x", "twice", ""])
def test_what_is_no_share_is_an_error_that_shows_one(settled: Station, text: str) -> None:
    options = [f"--share={text}"] if text != "twice" else ["--share=/srv/none:/a", "--share=/srv/none:/a/b"]
    said = settled.mvm("plan", "create", settled.flake(), *options)
    assert said.code == 2
    assert "--share DIRECTORY:/PLACE" in said.err
