"""`mvm init` says what to do next, and refuses what does not belong together."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.unit.builder.oci.images import Memory, pushed
from tests.unit.cli.station import Station


def test_it_says_how_to_run_it(station: Station) -> None:
    target = station.path / "a guest"
    said = station.mvm("init", target)
    assert (said.code, said.out) == (0, "")
    assert f"mvm run {shlex.quote(f'path:{target}')}\n" in said.err
    assert f"git init {shlex.quote(str(target))} && git -C" in said.err
    assert (target / "flake.lock").exists()
    assert not station.state.exists(), "it needs no key and no state"


def test_the_commands_that_it_names_are_right(station: Station) -> None:
    said = station.mvm("init", station.path / "a guest")
    line = said.err.splitlines()[-1].rpartition(" && ")[0]
    identity = {f"GIT_{who}_{what}": "t@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["bash", "-ec", line], env={"PATH": "/usr/bin:/bin"} | identity, check=True, capture_output=True)
    argv = ["git", "-C", str(station.path / "a guest"), "status", "--porcelain"]
    assert subprocess.check_output(argv) == b""


def test_within_a_repository(station: Station) -> None:
    subprocess.run(["git", "init", "-q", station.path / "repository"], check=True)
    said = station.mvm("init", station.path / "repository/guest")
    assert "git init" not in said.err
    assert "git -C" in said.err


def test_in_the_working_directory(station: Station) -> None:
    (station.path / "here").mkdir()
    station.monkeypatch.chdir(station.path / "here")
    assert station.mvm("init").code == 0
    assert 'name = "here";' in Path("flake.nix").read_text()
    again = station.mvm("init")
    assert (again.code, "flake.lock, flake.nix, mvmnix" in again.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--template", "oci"),
        ("--from", f"oci://registry.test/app@sha256:{'0' * 64}"),
        ("--template", "python", "--from", f"oci://registry.test/app@sha256:{'0' * 64}"),
        ("--template", "rust"),
    ],
)
def test_what_does_not_belong_together(station: Station, arguments: tuple[str, ...]) -> None:
    target = station.path / "guest"
    assert station.mvm("init", *arguments, target).code == 2
    assert not target.exists()


@pytest.mark.parametrize(
    ("reference", "code", "why"),
    [
        ("oci://registry.test/app:latest", 126, "oci-unpinned"),
        (f"oci://registry.test/app@sha256:{'0' * 64}", 126, "fetch-not-allowed"),
        ("app", 2, "oci://"),
    ],
)
def test_an_image_is_named_by_digest_from_a_listed_host(station: Station, reference: str, code: int, why: str) -> None:
    target = station.path / "guest"
    said = station.mvm("init", "--template", "oci", "--from", reference, target)
    assert (said.code, why in said.err) == (code, True), said.err
    assert not target.exists()


def test_an_image_by_its_digest(station: Station) -> None:
    registry, image = Memory(), pushed(b"layer", Cmd=["/bin/app"])
    reference = registry.hold(image.document, image=image)
    station.monkeypatch.setattr("mvmnix.api.network.Network.registries", registry)
    target = station.path / "guest"
    said = station.mvm("init", "--template", "oci", "--from", str(reference), target)
    assert said.code == 0, said.err
    described = json.loads((target / "image.json").read_bytes())
    assert described["command"] == ["/bin/app"]
    assert [pin["url"] for pin in described["pins"]] == registry.asked
    assert "mkOciGuest" in (target / "flake.nix").read_text()
