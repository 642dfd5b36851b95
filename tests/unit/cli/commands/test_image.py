"""`mvm image` and `mvm store gc`: nothing is trusted, and nothing is taken that somebody needs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mvmnix.api.context import LIBRARY_LOCK, SOURCES_LOCK
from mvmnix.cli.output import short
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.images.part_index import PartDomain
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineState, MachineStatus, new_id
from mvmnix.model import StorePath
from mvmnix.provenance.slsa.provenance import KeptPath
from mvmnix.system.private_dirs import Directory
from tests.unit.cli.plans import images, named, sign_plan, station_flake
from tests.unit.cli.station import Station
from tests.unit.provenance.world import DEB


def kept(station: Station) -> set[str]:
    return {f"{room}/{it.name}" for room in ("images", "bundles", "builds") for it in (station.state / room).iterdir()}


def files(station: Station, name: str) -> set[str]:
    image = named(station, name)
    said = station.mvm("image", "inspect", image["manifest"], "--json").answer("image")[0]["files"]
    digests = [line.split()[1].removeprefix("sha256:") for line in said]
    return {f"images/{digest}" for digest in digests} | {f"bundles/{image['provenance'].removeprefix('sha256:')}"}


@contextmanager
def running(station: Station, name: str) -> Iterator[None]:
    """A machine that runs from this image: its directory, and the lock that its supervisor holds, in this process."""
    image = named(station, name)
    manifest, bundle = (Digest(image[key].removeprefix("sha256:")) for key in ("manifest", "provenance"))
    of = (Digest.of(b""), Digest.of(b""), manifest, bundle)
    status = MachineStatus(new_id(), "web", name, *of, state=MachineState.CREATED, created=now())
    with (
        station.rooms() as rooms,
        MachineHome.create(rooms.machines, status),
    ):
        yield


# -- looking


def test_a_broken_entry_of_the_index_is_named_and_the_others_are_listed_and_run(settled: Station) -> None:
    broken, flake = settled.flake("other"), settled.flake()
    manifest = named(settled, "other")["manifest"].removeprefix("sha256:")
    (entry,) = (path for path in (settled.state / "builds").iterdir() if manifest in path.read_text())
    entry.write_bytes(b"{")
    remedy = f"remove it, and build again: {entry}"
    digits = named(settled, "hello")["manifest"].removeprefix("sha256:")[:12]
    for command in (("image", "ls"), ("run", f"image:{digits}", "--", "true")):
        said = settled.mvm(*command)
        assert (said.code, said.err.count("left out: "), remedy in said.err) == (0, 1, True), said.err
    assert settled.mvm("run", flake, "--", "true").code == 0
    for command in (("run", broken, "--", "true"), ("image", "prune")):
        said = settled.mvm(*command)
        assert (said.code, remedy in said.err) == (125, True), said.err
    entry.unlink()
    assert settled.mvm("image", "ls").err == ""
    assert settled.mvm("image", "prune").code == 0


@pytest.mark.parametrize("broken", ["entry", "manifest"])
def test_a_name_is_not_looked_for_where_an_image_can_not_be_read(settled: Station, broken: str) -> None:
    """It may be the one of that name, beside that of a stranger."""
    settled.flake("other")
    settled.flake()
    manifest = named(settled, "other")["manifest"].removeprefix("sha256:")
    (entry,) = (path for path in (settled.state / "builds").iterdir() if manifest in path.read_text())
    path = entry if broken == "entry" else settled.state / "images" / manifest
    path.chmod(0o600)
    path.write_bytes(b"{")
    remedy = f"remove it, and build again: {entry}" if broken == "entry" else f"mvm image rm sha256:{manifest}"
    for name in ("other", "hello"):
        commands = ("run", f"image:{name}", "--", "true"), ("image", "inspect", name), ("image", "rm", name)
        for command in commands:
            said = settled.mvm(*command)
            assert (said.code in {1, 125}, remedy in said.err) == (True, True), (said.code, said.err)
    if broken == "entry":
        entry.unlink()
    else:
        assert settled.mvm("image", "rm", f"sha256:{manifest}").code == 0
    assert settled.mvm("run", "image:hello", "--", "true").code == 0


def test_images_are_listed_as_they_verify(settled: Station) -> None:
    settled.flake()
    builder, hello = images(settled)
    assert [it["name"] for it in (builder, hello)] == ["builder", "hello"]
    assert hello["verified"]
    assert (hello["level"], hello["signer"], hello["neededBy"]) == (1, "builder", [])
    assert hello["flake"].startswith("path:hello#")
    said = settled.mvm("image", "ls")
    assert settled.mvm("images") == said
    rows = said.out.splitlines()
    assert rows[0].split() == ["NAME", "ATTRIBUTE", "DIGEST", "CREATED", "SIZE", "NEEDED", "BY"]
    digest = hello["manifest"].removeprefix("sha256:")[:12]
    assert rows[2].split()[:5] == ["hello", "default", digest, hello["finished"], f"{hello['size'] / 2**20:.1f}"]
    assert settled.mvm("image", "inspect", digest).code == 0


def test_the_list_is_narrow_and_digests_tell_images_apart(settled: Station) -> None:
    settled.flake()
    for _ in range(3):
        (settled.path / "plan.sigstore.json").unlink(missing_ok=True)
        plan = settled.mvm("plan", "create", station_flake(settled, "hello"), "--", "true").out
        (settled.path / "plan.json").write_text(plan)
        assert settled.mvm("plan", "sign", settled.path / "plan.json", "--out", settled.path / "p").code == 0
    with running(settled, "hello"):
        rows = settled.mvm("images").out.splitlines()
    assert rows[2].endswith("  1 machine, 3 plans")
    assert max(map(len, rows)) <= 100
    one, other = "sha256:" + "a" * 64, "sha256:" + "a" * 20 + "b" * 44
    assert short([one, other]) == {one: "a" * 24, other: "a" * 20 + "b" * 4}
    assert short([]) == {}


@pytest.mark.parametrize("room", ["images", "bundles"])
def test_what_does_not_verify_is_marked_and_not_quoted(settled: Station, room: str) -> None:
    settled.flake()
    for path in (settled.state / room).iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    for image in images(settled):
        assert (image["verified"], set(image)) == (
            False,
            {"manifest", "provenance", "verified", "neededBy", "reasons"},
        )
        assert image["reasons"]
    said = settled.mvm("image", "ls")
    assert [row.split()[0] for row in said.out.splitlines()] == ["NAME"] + ["UNVERIFIED"] * 2
    assert said.err.count("doesn't verify: ") == 2
    assert settled.mvm("image", "inspect", images(settled)[0]["manifest"]).code == 126


def test_one_image_is_shown(settled: Station) -> None:
    settled.flake()
    digest = named(settled, "hello")["manifest"]
    (shown,) = settled.mvm("image", "inspect", digest[:20], "--json").answer("image")
    assert (shown["manifest"], shown["verified"], shown["sources"]) == (digest, True, 1)
    assert [line.split()[0] for line in shown["files"]] == ["kernel", "initrd", "rootfs", "manifest.json"]
    assert f"manifest:    {digest}\n" in settled.mvm("image", "inspect", digest).out
    assert settled.mvm("image", "inspect", "0" * 64).code == 2


def test_what_an_image_runs_writes_no_lines_of_its_own(settled: Station) -> None:
    """A flake's author chooses the command, and whoever reads this has not run it yet."""
    user = {"uid": 1000, "gid": 1000}
    command = ["sh", "-c", "true\nverityRoot:  good\u2028signer: you"]
    settled.flake(workload={"command": command, "environment": {}, "directory": "/", "user": user})
    lines = settled.mvm("image", "inspect", named(settled, "hello")["manifest"]).out.splitlines()
    told = [line.partition(":")[0] for line in lines]
    assert (told.count("verityRoot"), told.count("signer")) == (1, 1)
    assert r"command:     sh, -c, true\nverityRoot:  good\u2028signer: you" in lines


# -- removing


def test_an_image_is_removed(settled: Station) -> None:
    settled.flake()
    gone, before = files(settled, "hello"), kept(settled)
    said = settled.mvm("image", "rm", named(settled, "hello")["manifest"], "--json")
    assert said.code == 0
    assert before - kept(settled) >= gone
    assert [it["name"] for it in images(settled)] == ["builder"]
    assert {f"{file}" for file in said.answer("freed")["files"]} >= gone - {"locks"}


def test_what_a_machine_runs_from_stays(settled: Station) -> None:
    settled.flake()
    settled.flake("other")
    before, needed = kept(settled), files(settled, "hello")
    digest = named(settled, "hello")["manifest"]
    with running(settled, "hello"):
        assert named(settled, "hello")["neededBy"] == ["the machine web"]
        said = settled.mvm("image", "rm", digest)
        assert (said.code, "needed by the machine web" in said.err) == (2, True)
        assert kept(settled) == before
        freed = settled.mvm("image", "prune", "--all", "--json").answer("freed")
        assert freed["images"] == [m for m in freed["images"] if m != digest]
        assert needed <= kept(settled)
        assert [it["name"] for it in images(settled)] == ["builder", "hello"]
    assert settled.mvm("image", "rm", digest).code == 0
    assert not needed & kept(settled) - files(settled, "builder")


def test_what_a_signed_plan_needs_stays(settled: Station) -> None:
    settled.flake()
    bundle = sign_plan(settled, "hello")
    (who,) = named(settled, "hello")["neededBy"]
    assert who == f"the plan {Digest.of(bundle.read_bytes())}"
    assert settled.mvm("image", "rm", named(settled, "hello")["manifest"]).code == 2
    assert settled.mvm("image", "prune", "--all", "--json").answer("freed")["images"] == []
    assert settled.mvm("launch", bundle).code == 0


def test_an_expired_plan_needs_nothing(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello", expired=True)
    hello = named(settled, "hello")
    assert hello["neededBy"] == []
    assert settled.mvm("image", "prune", "--all", "--json").answer("freed")["images"] == [hello["manifest"]]
    assert list((settled.state / "plans").iterdir()) == []


def test_a_kept_plan_that_cannot_be_read_stops_a_prune(settled: Station) -> None:
    settled.flake()
    sign_plan(settled, "hello")
    (path,) = (settled.state / "plans").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    said = settled.mvm("image", "prune", "--all")
    assert (said.code, str(path) in said.err) == (125, True)
    assert path.exists()


def test_an_ended_machine_needs_nothing(settled: Station) -> None:
    settled.mvm("run", settled.flake(), "--", "true")
    assert named(settled, "hello")["neededBy"] == []
    (status,) = (settled.state / "machines").glob("*/machine.json")
    said = json.loads(status.read_bytes())
    assert f"sha256:{said['manifest']}" == named(settled, "hello")["manifest"]
    assert f"sha256:{said['provenance']}" == named(settled, "hello")["provenance"]


def test_the_builder_is_spared(settled: Station) -> None:
    before = kept(settled)
    assert settled.mvm("image", "prune", "--all", "--json").answer("freed")["images"] == []
    assert kept(settled) == before


def test_a_dry_run_only_says_it(settled: Station) -> None:
    settled.flake()
    before = kept(settled)
    told = settled.mvm("image", "prune", "--all", "--dry-run", "--json").answer("freed")
    assert kept(settled) == before
    done = settled.mvm("image", "prune", "--all", "--json").answer("freed")
    assert done == told | {"removed": True}
    assert (told["removed"], told["images"] != []) == (False, True)


def test_young_images_stay(settled: Station) -> None:
    settled.flake()
    assert settled.mvm("image", "prune", "--all", "--older-than", "1", "--json").answer("freed")["images"] == []
    assert len(settled.mvm("image", "prune", "--all", "--older-than", "0", "--json").answer("freed")["images"]) == 1
    assert settled.mvm("image", "prune", "--older-than", "0").code == 2


HOLD = """
import os, sys
from mvmnix.api.context import open_context
with open_context() as rooms, rooms.working():
    print("working", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("command", [("image", "prune"), ("image", "rm", "0123456789"), ("store", "gc")])
def test_nothing_is_taken_away_while_somebody_builds(settled: Station, command: tuple[str, ...]) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"working\n"
        said = settled.mvm(*command)
        assert (said.code, f"process {builder.pid}" in said.err) == (125, True)
        assert settled.mvm("image", "ls").code == 0, "looking is shared"
        for dry in (("image", "prune", "--all", "--dry-run"), ("store", "gc", "--dry-run")):
            said = settled.mvm(*dry)
            assert (said.code, f"process {builder.pid} makes or uses" in said.err) == (0, True), said.err
        assert settled.mvm("run", settled.flake(), "--", "true").code == 0, "and so is working"
        builder.kill()
    assert settled.mvm("image", "prune").code == 0


def test_a_machine_at_work_holds_nothing_up(settled: Station) -> None:
    """Once its files are open, a launch lets others tidy; what it needs is counted, not locked."""
    reference = settled.flake()
    seen: list[tuple[int | None, ...]] = []

    def look(*_: object, **__: object) -> Any:
        with Directory.open(str(settled.state)) as state, Directory.open(str(settled.home / ".cache/mvmnix")) as cache:
            seen.append((state.holder(LIBRARY_LOCK), cache.holder(SOURCES_LOCK)))
        raise KeyboardInterrupt

    settled.monkeypatch.setattr("mvmnix.api.launch.RunningMachine.finish", look)
    settled.mvm("run", reference)
    assert seen == [(None, None)]


@pytest.mark.parametrize("command", ["rm", "prune"])
def test_what_rebuilds_testified_goes_with_the_image(settled: Station, command: str) -> None:
    settled.flake()
    digests = {name: named(settled, name)["manifest"].removeprefix("sha256:") for name in ("hello", "builder")}
    for digest in digests.values():
        (settled.state / "rebuilds" / digest).mkdir(parents=True, mode=0o700)
        (settled.state / "rebuilds" / digest / ("0" * 64)).write_bytes(b"a bundle")
    (settled.state / "rebuilds").chmod(0o700)
    assert settled.mvm("image", command, digests["hello"] if command == "rm" else "--all").code == 0
    assert [it.name for it in (settled.state / "rebuilds").iterdir()] == [digests["builder"]]


# -- archives


def test_saved_here_and_loaded_there(settled: Station) -> None:
    settled.flake()
    hello, archive = named(settled, "hello"), settled.path / "hello.tar"
    assert settled.mvm("image", "save", hello["manifest"], "-o", archive).code == 0
    assert settled.mvm("image", "save", hello["manifest"], "-o", archive).code == 2, "it is there already"
    plan = sign_plan(settled, "hello")
    (settled.state / "plans").rename(settled.path / "plans")
    assert settled.mvm("image", "rm", hello["manifest"]).code == 0
    assert settled.mvm("launch", plan).code == 125
    said = settled.mvm("image", "load", archive)
    assert (said.code, said.out) == (0, f"{hello['manifest']}\n")
    assert named(settled, "hello") == hello
    assert settled.mvm("launch", plan).code == 0


def test_an_archive_of_nobody_s_is_refused_and_logged(settled: Station) -> None:
    archive = settled.path / "strange.tar"
    archive.write_bytes(b"x" * 1024)
    said = settled.mvm("image", "load", archive)
    assert (said.code, "archive-malformed" in said.err) == (126, True)
    assert "archive-malformed" in settled.mvm("audit", "tail").out


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_an_archive_that_is_no_file(settled: Station, kind: str) -> None:
    path = settled.path / "archive"
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            pass
    assert settled.mvm("image", "load", path).code == 2


# -- sources


def test_sources_of_kept_builds_stay(settled: Station) -> None:
    settled.flake()
    with settled.rooms() as rooms:
        for data in (b"bash", b"left over"):
            rooms.sources.put(data, Digest.of(data))
        (Path(rooms.roots.cache.path) / "sources/.incoming.01.tmp").write_bytes(b"half")
    told = settled.mvm("store", "gc", "--dry-run", "--json").answer("freed")
    assert told == {
        "sources": [str(Digest.of(b"left over"))],
        "leftovers": [".incoming.01.tmp"],
        "bytes": 13,
        "removed": False,
    }
    assert settled.mvm("store", "gc").code == 0
    assert [it.name for it in (settled.home / ".cache/mvmnix/sources").iterdir()] == [DEB.digest.hex]
    for image in images(settled):
        assert settled.mvm("image", "rm", image["manifest"]).code == 0
    settled.mvm("store", "gc")
    assert list((settled.home / ".cache/mvmnix/sources").iterdir()) == []


def test_a_build_whose_claim_is_refused_stops_it(settled: Station) -> None:
    settled.flake()
    hello = named(settled, "hello")
    path = settled.state / "bundles" / hello["provenance"].removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-1])
    said = settled.mvm("store", "gc")
    assert (said.code, f"mvm image rm {hello['manifest']}" in said.err) == (125, True)


def test_kept_parts_stay(settled: Station) -> None:
    """Their archives lie among the sources, the statements that vouch for them among the bundles."""
    archive, statement = b"archive of a part", b"a signed statement"
    part = KeptPath(StorePath("5" * 32, "initrd"), Digest.of(archive), Digest.of(statement))
    with settled.rooms() as rooms:
        rooms.sources.put(archive, part.nar)
        rooms.part_index.add(PartDomain(Digest.of(b"tree"), ()), {}, (part,), statement)
    for command in (("image", "prune", "--all"), ("store", "gc")):
        assert settled.mvm(*command).code == 0
    assert (settled.state / "bundles" / part.bundle.hex).read_bytes() == statement
    assert (settled.home / ".cache/mvmnix/sources" / part.nar.hex).read_bytes() == archive
