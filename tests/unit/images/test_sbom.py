"""The SBOM: valid by the library's own validator, the same bytes for the same record, nothing left out."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from mvmnix.builder.flakes.build_request import BuildRequest
from mvmnix.builder.flakes.flake_source import FlakeSource
from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.session import BuildInputs
from mvmnix.digest import Digest
from mvmnix.formats import lock, strict
from mvmnix.images import sbom
from mvmnix.model import HashMode, Source, StorePath
from mvmnix.provenance.slsa.provenance import Cached, KeptPath
from tests.fakes import DERIVATION
from tests.repository import ROOT
from tests.unit.provenance.world import DEB, LOCK, SEED, TOUCHED, new_world

BUSYBOX = Source(
    "mirror://debian/pool/main/b/busybox/busybox-static_1.37.0-6+b9_amd64.deb",
    "busybox-static_1.37.0-6_b9_amd64.deb",
    Digest.of(b"busybox"),
)
PROGRAM = Source(f"{BUSYBOX.uri}#usr/bin/busybox", "busybox", Digest.of(b"nar of busybox"), HashMode.NAR)
WHEEL = Source("mirror://pypi/rich/rich-14.0.0-py3-none-any.whl", "rich.whl", Digest.of(b"rich"))
LAYER = Source(f"oci://registry.test/team/app@sha256:{'ab' * 32}", f"oci-{'ab' * 32}", Digest("ab" * 32))
TARBALL = Source("https://files.test/x-1.tar.gz", "x-1.tar.gz", Digest.of(b"x"))
PATH = StorePath("3" * 32, "hello-2.12.1-man")
CACHED = Cached(PATH, "https://cache.test/nar/1.nar.xz", Digest.of(b"nar"), f"cache.test-1:{'A' * 43}=")
KEPT = KeptPath(StorePath("4" * 32, "initrd"), Digest.of(b"initrd"), Digest.of(b"statement"))
FINISHED = datetime(2026, 9, 1, 12, 0, 7, 123456, tzinfo=UTC)


@pytest.fixture
def record(tmp_path: Path) -> BuildRecord:
    return make_record(tmp_path)


def make_record(directory: Path) -> BuildRecord:
    world = new_world(directory)
    tree = FlakeSource("path:hello", None, b"", Digest.of(b"tree"), "", LOCK)
    return BuildRecord(
        request=BuildRequest(tree, lock.parse(LOCK), "default"),
        image=replace(world.image, sources=(DEB, BUSYBOX, LAYER)),
        derivation=DERIVATION,
        given=BuildInputs(
            sources=(BUSYBOX, DEB, LAYER, PROGRAM, SEED, TARBALL, WHEEL),
            touched=frozenset({TOUCHED}),
            cached=(CACHED,),
            kept=(KEPT,),
        ),
        nix="2.26.3",
        started=FINISHED - timedelta(minutes=1),
        finished=FINISHED,
    )


def document(record: BuildRecord, versions: dict[str, str] | None = None) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(sbom.of(record, versions=versions or {}))
    return value


def component(record: BuildRecord, name: str, **versions: Any) -> dict[str, Any]:
    found = [it for it in document(record, **versions)["components"] if it["name"] == name]
    assert len(found) == 1, name
    return dict(found[0])


def test_it_is_valid(record: BuildRecord) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    data = sbom.of(record, versions={})
    assert validator.validate_str(data.decode()) is None
    broken = data.replace(b'"bomFormat":"CycloneDX"', b'"bomFormat":"other"')
    assert validator.validate_str(broken.decode()) is not None


def test_the_same_record_makes_the_same_bytes(record: BuildRecord) -> None:
    data = sbom.of(record, versions={})
    assert strict.canonical(json.loads(data)) == data
    turned = replace(record, given=replace(record.given, sources=record.given.sources[::-1]))
    assert sbom.of(turned, versions={}) == data


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_makes_the_same_bytes(record: BuildRecord, tmp_path: Path, seed: str) -> None:
    """Whatever the order in which its sets and dictionaries hash."""
    code = "from tests.unit.images import test_sbom as it; it.show()"
    argv = [sys.executable, "-c", code, str(tmp_path)]
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output(argv, env=environment) == sbom.of(record, versions={})


def show() -> None:
    sys.stdout.buffer.write(sbom.of(make_record(Path(sys.argv[1])), versions={}))


def test_a_later_build_of_the_same_is_another_document(record: BuildRecord) -> None:
    one, two = document(record), document(replace(record, finished=FINISHED + timedelta(seconds=1)))
    assert one["serialNumber"] != two["serialNumber"]
    assert one["components"] == two["components"]
    assert one["metadata"]["timestamp"] == "2026-09-01T12:00:07+00:00"


def test_the_image_itself(record: BuildRecord) -> None:
    image = document(record)["metadata"]["component"]
    assert (image["name"], image["version"]) == ("hello", str(record.image.manifest.digest))
    hashes = {it["name"]: it["hashes"][0]["content"] for it in image["components"]}
    assert hashes == {it.name: it.digest.hex for it in record.image.artifacts}


@pytest.mark.parametrize(
    ("name", "purl", "scope", "hashed"),
    [
        ("busybox-static", "pkg:deb/debian/busybox-static@1.37.0-6%2Bb9?arch=amd64", "required", True),
        ("app", f"pkg:oci/app@sha256:{'ab' * 32}?repository_url=registry.test/team/app", "required", True),
        ("rich", "pkg:pypi/rich@14.0.0", "excluded", True),
        ("x-1.tar.gz", f"pkg:generic/x-1.tar.gz?checksum=sha256:{TARBALL.digest.hex}", "excluded", True),
        ("source", "pkg:generic/source", "excluded", False),
        ("hello", "pkg:generic/hello@2.12.1-man", None, False),
        ("initrd", "pkg:generic/initrd", None, False),
    ],
)
def test_each_source_has_its_name_in_the_world(
    record: BuildRecord, name: str, purl: str, scope: str | None, hashed: bool
) -> None:
    if name == "busybox-static":
        sources = tuple(it for it in record.given.sources if it != PROGRAM)
        record = replace(record, given=replace(record.given, sources=sources))
    found = component(record, name)
    assert (found["purl"], found.get("scope"), "hashes" in found) == (purl, scope, hashed)


def test_a_github_input() -> None:
    source = Source(f"github:NixOS/nixpkgs/{'1' * 40}", "source", Digest.of(b"x"), HashMode.NAR)
    purl, _ = sbom._purl(source, {})
    assert str(purl) == f"pkg:github/nixos/nixpkgs@{'1' * 40}"


@pytest.mark.parametrize("version", ["1.37.0-6+b9", "1:1.37.0-6+b9"])
def test_a_known_epoch_is_added_to_a_package_and_to_what_comes_out_of_it(record: BuildRecord, version: str) -> None:
    record = replace(record, given=BuildInputs((PROGRAM,)), image=replace(record.image, sources=(BUSYBOX,)))
    made = document(record, {BUSYBOX.uri: version} if ":" in version else {})
    purl = f"pkg:deb/debian/busybox-static@{version.replace('+', '%2B')}?arch=amd64"
    found = {it["purl"]: (it["version"], it["scope"]) for it in made["components"] if it["name"] == "busybox-static"}
    assert found == {purl: (version, "required"), f"{purl}#usr/bin/busybox": (version, "excluded")}


def test_nothing_is_left_out(record: BuildRecord) -> None:
    """Each source, touched input, cached path and kept part is one component, on which the image depends."""
    made = document(record)
    references = {it["bom-ref"] for it in made["components"]}
    assert len(made["components"]) == len(references) == len(record.given.sources) + 1 + 1 + 1
    depends = {it["ref"]: it.get("dependsOn", []) for it in made["dependencies"]}
    assert set(depends["image"]) == references
    said = {p["value"] for it in made["components"] for p in it["properties"] if p["name"] == "mvmnix:uri"}
    assert said >= {source.uri for source in record.given.sources} | {"https://host/used.tar.gz", CACHED.uri}


def test_the_launch_path_does_not_pay_for_it() -> None:
    code = "import sys, mvmnix.cli.commands.run, mvmnix.cli.commands.launch; sys.exit('cyclonedx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
