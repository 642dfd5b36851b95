"""`mvm bundle export` and `mvm trusted-root export`: what is taken across the gap, and verifies there by itself."""

import json
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.provenance.identity.sigstore import public_good_root
from tests.private_sigstore import Sigstore
from tests.unit.cli.plans import signed
from tests.unit.cli.policies import policy
from tests.unit.cli.station import Station

FILES = ("kernel", "initrd", "rootfs", "manifest.json")


@pytest.fixture
def ran(settled: Station) -> tuple[Station, str, Path]:
    """An image from a kept part, with a plan, and a machine that ran."""
    flake = settled.flake(parts=True)
    out = settled.path / "image"
    manifest = settled.mvm("build", flake, "--out", out).out.strip()
    assert settled.mvm("launch", signed(settled)).code == 0
    return settled, manifest, out


def test_all_that_was_signed(ran: tuple[Station, str, Path]) -> None:
    station, manifest, image = ran
    said = station.mvm("bundle", "export", manifest)
    assert said.code == 0
    lines = said.out.splitlines()
    assert said.err == "4 bundles: 1 provenance, 1 parts, 1 plan, 1 receipt\n"
    assert (image / "provenance.sigstore.json").read_text() == lines[0]
    assert (image / "parts.sigstore.jsonl").read_text() == lines[1]
    assert (station.path / "plan.sigstore.json").read_text() == lines[2]
    assert {Digest.of(line.encode()) for line in lines} == {Digest.of(line.encode()) for line in set(lines)}


def test_the_kit_verifies_with_public_keys_alone(ran: tuple[Station, str, Path]) -> None:
    station, manifest, image = ran
    kit = station.path / "kit.jsonl"
    assert station.mvm("bundle", "export", manifest.removeprefix("sha256:")[:12], "--out", kit).code == 0
    assert station.mvm("bundle", "export", manifest, "--out", kit).code == 2, "it is there already"
    kinds = {"builder": "slsaprovenance1", "planner": "urn:mvmnix:plan:1"}
    for role, kind in kinds.items():
        key = station.path / f"{role}.pub"
        key.write_text(station.mvm("key", "show", role).out)
        for name in FILES:
            said = station.mvm("verify", "--bundle", kit, "--key", key, "--type", kind, image / name)
            assert said.code == 0, said.err
        assert station.mvm("verify", "--bundle", kit, "--key", key, image / "provenance.sigstore.json").code == 1


def test_a_file_for_each(ran: tuple[Station, str, Path]) -> None:
    station, manifest, _ = ran
    kit = station.path / "kit"
    assert station.mvm("bundle", "export", manifest, "--directory", kit).code == 0
    names = sorted(path.name for path in kit.iterdir())
    assert [name.split("-")[0] for name in names] == ["parts", "plan", "provenance", "receipt"]
    assert all(Digest.of(path.read_bytes()).hex in path.name for path in kit.iterdir())
    assert station.mvm("bundle", "export", manifest, "--directory", kit).code == 2
    assert station.mvm("bundle", "export", manifest, "--directory", kit / "x", "--out", "y").code == 2
    assert station.mvm("bundle", "export", "0" * 64).code == 2


def test_of_this_image_only(ran: tuple[Station, str, Path]) -> None:
    station, _, _ = ran
    other = station.mvm("build", station.flake("other")).out.strip()
    said = station.mvm("bundle", "export", other)
    assert (said.code, said.err) == (0, "1 bundle: 1 provenance\n")


def test_the_public_root(station: Station) -> None:
    out = station.path / "root.json"
    said = station.mvm("trusted-root", "export", "--out", out, "--json")
    told = said.answer("trusted-root")
    assert out.read_bytes() == public_good_root()
    assert told["digest"] == str(Digest.of(out.read_bytes()))
    assert told["age-days"] >= 0
    assert (
        f"{told['digest']}: its youngest entry is trusted since {told['newest']}, {told['age-days']} days ago"
        in said.err
    )
    assert station.mvm("trusted-root", "export").out == out.read_text()
    assert station.mvm("trusted-root", "export", "--out", out).code == 2
    assert station.mvm("trusted-root", "export", "--json").code == 2


def pinned(station: Station, root: bytes) -> None:
    """Have the policy pin this root as `ours`."""
    roots = station.config / "roots"
    roots.mkdir(mode=0o700)
    (roots / "ours.json").write_bytes(root)
    (roots / "ours.json").chmod(0o600)
    policy(station, lambda text: text + f'\n[[roots]]\nname = "ours"\nsha256 = "{Digest.of(root).hex}"\n')


def test_a_root_of_the_policy(settled: Station) -> None:
    root = Sigstore().trusted_root
    pinned(settled, root)
    said = settled.mvm("trusted-root", "export", "ours")
    assert (said.code, said.out.encode()) == (0, root)
    assert str(Digest.of(root)) in said.err
    missing = settled.mvm("trusted-root", "export", "theirs")
    assert (missing.code, "it pins ours" in missing.err) == (2, True)


def test_a_root_without_entries_has_no_age(settled: Station) -> None:
    value = json.loads(Sigstore().trusted_root)
    pinned(settled, json.dumps({"mediaType": value["mediaType"]}).encode())
    assert "it has no log and no authority" in settled.mvm("trusted-root", "export", "ours").err
