"""`mvm plan ls`, `rm`, and `image:NAME` where a flake could stand: what keeps an image, and how an image is meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.model import FlakeRef
from tests.unit.cli.plans import images, named, sign_plan
from tests.unit.cli.station import Said, Station


def plans(station: Station) -> list[dict[str, Any]]:
    found = station.mvm("plan", "ls", "--json").answer("plans")
    assert isinstance(found, list)
    return found


def test_there_is_none(settled: Station) -> None:
    assert plans(settled) == []
    assert settled.mvm("plan", "ls").out.split() == ["PLAN", "IMAGE", "MANIFEST", "UNTIL", "USE", "SIGNERS"]


def test_a_signed_plan_is_listed_and_keeps_its_image_until_it_is_forgotten(settled: Station) -> None:
    settled.flake()
    bundle = sign_plan(settled, "hello")
    digest, hello = Digest.of(bundle.read_bytes()), named(settled, "hello")
    (listed,) = plans(settled)
    assert listed == {
        "plan": str(digest),
        "readable": True,
        "image": "hello",
        "manifest": hello["manifest"],
        "provenance": hello["provenance"],
        "notBefore": listed["notBefore"],
        "notAfter": listed["notAfter"],
        "expired": False,
        "use": "within-window",
        "signers": ["planner"],
    }
    row = settled.mvm("plan", "ls").out.splitlines()[1].split()
    assert row == [
        *(digest.hex[:12], "hello", hello["manifest"].removeprefix("sha256:")[:12]),
        *(listed["notAfter"], "within-window", "planner"),
    ]
    refused = settled.mvm("image", "rm", "hello")
    assert (refused.code, "mvm plan rm" in refused.err) == (2, True)
    assert settled.mvm("plan", "rm", row[0]) == Said(0, f"{digest}\n", "")
    assert plans(settled) == []
    assert settled.mvm("launch", bundle).code == 0, "it is valid still"
    assert settled.mvm("image", "rm", "hello").code == 0


def test_a_kept_plan_starts_machines_by_its_digest(settled: Station) -> None:
    settled.flake()
    bundle = sign_plan(settled, "hello")
    name = f"plan:{Digest.of(bundle.read_bytes()).hex[:12]}"
    shown = settled.mvm("plan", "show", bundle)
    bundle.unlink()
    assert settled.mvm("plan", "show", name) == shown
    assert settled.mvm("launch", name).code == 0
    assert settled.mvm("create", name).code == 0
    for command in ("launch", "create"):
        said = settled.mvm(command, "plan:abcdef")
        assert (said.code, "mvm plan ls lists them" in said.err) == (2, True)
    (path,) = (settled.state / "plans").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    said = settled.mvm("launch", name)
    assert (said.code, "source-mismatch" in said.err) == (126, True), "other bytes than the digest's"


def test_an_expired_plan_is_called_so(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello", expired=True)
    assert [it["expired"] for it in plans(settled)] == [True]
    assert settled.mvm("plan", "ls").out.splitlines()[1].split()[3] == "expired"


def test_a_plan_that_can_t_be_read_can_be_forgotten(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello")
    (path,) = (settled.state / "plans").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert plans(settled) == [{"plan": f"sha256:{path.name}", "readable": False}]
    assert settled.mvm("plan", "ls").out.splitlines()[1].split() == [path.name[:12], "UNREADABLE"]
    assert settled.mvm("image", "prune", "--all").code == 125
    assert settled.mvm("plan", "rm", path.name).code == 0
    assert settled.mvm("image", "prune", "--all").code == 0


@pytest.mark.parametrize("text", ["abcde", "", "nothing", "../plan", "0" * 64])
def test_a_plan_that_is_not_kept(settled: Station, text: str) -> None:
    settled.flake()
    sign_plan(settled, "hello")
    (path,) = (settled.state / "plans").iterdir()
    said = settled.mvm("plan", "rm", path.name, text)
    assert (said.code, "no kept plan has a digest" in said.err) == (2, True)
    assert len(plans(settled)) == 1, "none is removed where one is not meant"


def test_a_beginning_of_two_plans_is_refused_with_both(settled: Station) -> None:
    (settled.state / "plans").mkdir(mode=0o700)
    both = ["abcdef" + digit * 58 for digit in "12"]
    for name in both:
        (settled.state / "plans" / name).touch(mode=0o600)
    said = settled.mvm("plan", "rm", "abcdef")
    assert said.code == 2
    assert all(name[:12] in said.err for name in both)
    assert settled.mvm("plan", "rm", "abcdef1").out == f"sha256:{both[0]}\n"


# -- images in place of flakes


@pytest.mark.parametrize("way", ["name", "beginning", "digest"])
def test_a_kept_image_runs_without_its_flake(settled: Station, way: str) -> None:
    flake = Path(settled.flake().removeprefix("path:"))
    (flake / "flake.nix").unlink()
    digest = named(settled, "hello")["manifest"]
    text = {"name": "hello", "beginning": digest.removeprefix("sha256:")[:8], "digest": digest}[way]
    said = settled.mvm("run", f"image:{text}", "--", "echo", "x")
    assert (said.code, said.out) == (0, "x\n"), said.err
    made = json.loads(settled.mvm("plan", "create", f"image:{text}", "--", "echo").out)
    assert made["predicate"]["image"]["name"] == "hello"
    assert settled.mvm("show", f"image:{text}").code == 0


def test_an_image_that_is_shown_by_its_name(settled: Station) -> None:
    settled.flake()
    assert settled.mvm("show", "hello").code == 0
    settled.mvm("run", "--name", "hello", "image:hello", "--", "true")
    said = settled.mvm("show", "hello")
    assert said.code == 2
    assert "is a machine and an image" in said.err
    assert "image:hello" in said.err


@pytest.mark.parametrize(
    "command",
    [
        ("run", "image:hello", "--", "true"),
        ("plan", "create", "image:hello", "--", "true"),
        ("image", "rm", "hello"),
        ("image", "inspect", "hello"),
        ("image", "save", "-o", "FILE", "hello"),
        ("show", "hello"),
    ],
    ids=" ".join,
)
def test_images_of_one_name_are_listed_with_their_dates_and_none_is_taken(
    settled: Station, command: tuple[str, ...]
) -> None:
    """The older one and the newer one may be those of two flakes: nobody guesses."""
    settled.flake()
    other = settled.flake_file(settled.path / "others", "hello")
    (other / "edited").touch()
    settled.built(FlakeRef(str(other), copy=True), "hello", memoryMiB=256)
    both = [it for it in images(settled) if it["name"] == "hello"]
    assert len(both) == 2
    said = settled.mvm(*(str(settled.path / "saved") if word == "FILE" else word for word in command))
    assert (said.code, said.out) == (2, ""), said.err
    for it in both:
        assert f"  {it['manifest'].removeprefix('sha256:')[:12]}  {it['finished']}  {it['flake']}" in said.err
    assert [it for it in images(settled) if it["name"] == "hello"] == both


@pytest.mark.parametrize("text", ["image:nothing", "image:", "image:../x", "hello"])
def test_an_image_that_is_not_kept(settled: Station, text: str) -> None:
    settled.flake()
    said = settled.mvm("run", text)
    assert (said.code, said.out) == (2, "")
    assert ("mvm image" in said.err) or ("image:NAME" in said.err)


def test_a_kept_image_that_does_not_verify_is_refused(settled: Station) -> None:
    settled.flake()
    bundle = named(settled, "hello")["provenance"].removeprefix("sha256:")
    path = settled.state / "bundles" / bundle
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    said = settled.mvm("run", "image:hello")
    assert said.code == 126
    assert "source-mismatch" in said.err
    assert "source-mismatch" in settled.mvm("audit", "tail").out
