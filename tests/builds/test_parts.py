"""Kept parts in real builds: an edit rebuilds what depends on it; what was poisoned is not used, to the same bits."""

import json
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from tests.builds.conftest import Place
from tests.conftest import commit
from tests.fakes import nar_of
from tests.hostile.rig import replaced

pytestmark = pytest.mark.vm


def test_an_edit_of_one_file_rebuilds_what_depends_on_it(place: Place, tmp_path: Path) -> None:
    _, first = place.build("./examples/hello")
    flake = place.tree / "examples/hello/flake.nix"
    flake.write_text(flake.read_text().replace("Hello from", "Greetings from"))
    commit(place.tree)
    _, second = place.build("./examples/hello")
    assert place.built() == ["guest-hello", "rootfs"]
    assert second.root.commit != first.root.commit
    assert second.kept
    assert second.kept == first.kept
    parts = json.loads(place.page.read_bytes())["kept"]
    assert {part.nar.hex for part in second.kept} <= {part["nar"] for part in parts}
    place.mvm("build", "./examples/hello", "--out", tmp_path / "out")
    place.mvm("verify", tmp_path / "out")
    (tmp_path / "out/parts.sigstore.jsonl").unlink()
    refused = place.world.home.mvm("verify", tmp_path / "out")
    assert refused.returncode == 1
    assert b"[parts-mismatch]" in refused.stderr


@pytest.mark.in_turn
def test_what_was_poisoned_is_not_used_and_the_bits_are_the_same(place: Place) -> None:
    """An archive that was changed in place, and a page that names another one, whose hash is right."""
    poison = nar_of(b"not what mvm made")
    page = json.loads(place.page.read_bytes())
    spoiled = next(part for part in page["kept"] if part["path"].endswith("-initrd"))
    swapped = next(part for part in page["kept"] if part["path"].endswith("-mvm-agent"))
    replaced(place.sources / spoiled["nar"], poison)
    replaced(place.sources / Digest.of(poison).hex, poison)
    swapped["nar"] = Digest.of(poison).hex
    place.page.write_text(json.dumps(page))
    said, claim = place.build("./examples/hello", "--again")
    used = {str(part.path): part.nar.hex for part in claim.kept}
    assert spoiled["path"] not in used
    assert Digest.of(poison).hex not in used.values()
    assert swapped["path"] in used, "it was built for this"
    assert "initrd" in place.built(), "what was spoiled is built in the VM"
    names = ("kernel", "initrd", "rootfs", "manifest.json")
    hello = {name: str(Digest.of((place.world.hello / name).read_bytes())) for name in names}
    assert said["artifacts"] == hello
    assert not (place.sources / spoiled["nar"]).exists(), "it made room for a good one"
    again, claim = place.build("./examples/hello", "--again")
    assert again["artifacts"] == hello
    assert spoiled["path"] in {str(part.path) for part in claim.kept}, "and was built for this"
