"""From a reference to the flake that is built: what is pinned, what the tree holds, and what is never asked for."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.builder.oci.image import build_request, describe_image, resolve_image
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from tests.unit.builder.oci.images import INDEX, Memory, descriptor, pushed, text

IMAGE = pushed(b"one", b"two", Cmd=["/bin/app"], Env=["A=@kernel.size@"], User="web")


def test_an_index_leads_to_one_image() -> None:
    registry = Memory()
    wanted = registry.hold(IMAGE.document, IMAGE.index(), image=IMAGE)
    found = resolve_image(wanted, registry)
    assert [str(one) for one in found.documents] == registry.asked
    assert found.documents[0] == wanted
    assert len(found.documents) == 3
    assert not {str(layer.digest) for layer in found.layers} & {asked.partition("@")[2] for asked in registry.asked}


def test_a_manifest_is_named_by_itself() -> None:
    registry = Memory()
    found = resolve_image(registry.hold(IMAGE.document, image=IMAGE), registry)
    assert len(found.documents) == 2


def test_an_index_of_indexes() -> None:
    inner = IMAGE.index()
    outer = text(
        {
            "schemaVersion": 2,
            "manifests": [
                descriptor(
                    inner,
                    "application/vnd.oci.image.manifest.v1+json",
                    platform={"os": "linux", "architecture": "amd64"},
                )
            ],
        }
    )
    registry = Memory()
    with pytest.raises(RefusedError, match="another index") as caught:
        resolve_image(registry.hold(inner, outer), registry)
    assert caught.value.codes == (Code.OCI_UNSUPPORTED,)
    nested = text(
        {"schemaVersion": 2, "manifests": [descriptor(inner, INDEX, platform={"os": "linux", "architecture": "amd64"})]}
    )
    with pytest.raises(RefusedError, match="no image for"):
        resolve_image(registry.hold(inner, nested), registry)


def restored(archive: bytes, where: Path) -> Path:
    """A tree, by the reader of NARs that everybody uses."""
    subprocess.run(["nix-store", "--restore", where], input=archive, check=True)
    return where


@pytest.mark.integration
def test_the_tree(tmp_path: Path) -> None:
    registry = Memory()
    wanted = registry.hold(IMAGE.document, image=IMAGE)
    made = build_request(wanted, registry)
    assert made.flake.uri == f"path:oci/registry.test/team/app@{wanted.digest}"
    assert made.flake.commit is None
    assert (made.lock.locked, made.lock.digest) == ((), None)
    tree = restored(made.flake.archive, tmp_path / "tree")
    assert sorted(path.name for path in tree.iterdir()) == ["flake.nix", "image.json", "modules", "profiles"]
    assert not list(tree.rglob("__pycache__"))
    described = json.loads((tree / "image.json").read_bytes())
    assert described["name"] == "app"
    assert described["user"] == "web"
    assert described["environment"] == {"A": "@kernel.size@"}
    pins = [pin["url"] for pin in described["pins"] + described["layers"]]
    assert pins[0] == str(wanted)
    assert {pin.partition("@")[2] for pin in pins} == {str(wanted.digest), *IMAGE.blobs}


@pytest.mark.parametrize(("name", "short"), [("team/" + "a" * 64, "a" * 64), ("a" * 65, "a" * 64), ("team/app", "app")])
def test_what_an_image_is_called(name: str, short: str) -> None:
    """A manifest takes 64 characters."""
    registry = Memory()
    wanted = replace(registry.hold(IMAGE.document, image=IMAGE), name=name)
    assert json.loads(describe_image(resolve_image(wanted, registry)))["name"] == short


def test_the_same_image_is_the_same_tree() -> None:
    """Also from another index; so that a kept build is found, and two pulls agree."""
    registry = Memory()
    wanted = registry.hold(IMAGE.document, image=IMAGE)
    assert build_request(wanted, registry).flake.nar == build_request(wanted, registry).flake.nar
