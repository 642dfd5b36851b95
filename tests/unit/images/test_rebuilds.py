"""What rebuilds testify is kept beside the first build, and counts after it was verified for that image."""

from pathlib import Path
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import VerifiedImage
from mvmnix.model import StorePath
from mvmnix.provenance.slsa.provenance import BuilderLimits, Provenance, Variation
from mvmnix.provenance.verify.verify import Verified
from mvmnix.system.private_dirs import Directory
from tests.descriptors import until_the_end
from tests.unit.images.shelf import Shelf, other_world, spoil
from tests.unit.provenance.world import PLANNER, new_world

AGAIN: dict[str, Any] = {
    "invocation": "of-the-second-build",
    "variation": Variation("rebuild", 86_400, "reversed"),
    "limits": BuilderLimits(3, 2048, 4096, 3600),
}


class Twice(Shelf):
    """A shelf with a first build on it."""

    def begin(self) -> VerifiedImage:
        self.first = self.keep()
        self.rebuilds = RebuildStore(until_the_end(Directory.create(str(self.path))))
        return self.first

    def bundle(self, **changes: Any) -> bytes:
        self.world.sign_provenance(**(AGAIN | changes))
        return self.world.provenance_bundle

    def again(self, bundle: bytes) -> Verified[Provenance]:
        return self.rebuilds.keep(self.first, bundle, policy=self.world.policy, now=self.world.now)

    def found(self) -> tuple[Verified[Provenance] | RefusedError, ...]:
        return tuple(it for _, it in self.rebuilds.each(self.first, policy=self.world.policy, now=self.world.now))

    def where(self, bundle: bytes) -> Path:
        return self.path / "rebuilds" / self.first.image.manifest.digest.hex / Digest.of(bundle).hex


@pytest.fixture
def shelf(tmp_path: Path) -> Twice:
    (tmp_path / "world").mkdir()
    it = Twice(tmp_path / "state", new_world(tmp_path / "world"))
    it.begin()
    return it


def test_a_rebuild_is_kept_beside_the_first(shelf: Twice) -> None:
    assert shelf.found() == ()
    one, two = shelf.bundle(), shelf.bundle(invocation="of-the-third-build")
    kept = [shelf.again(bundle) for bundle in (one, two, one)]
    assert kept[0].claim.variation == AGAIN["variation"]
    assert kept[0].level == shelf.first.provenance.level
    assert {it.bundle for it in shelf.found() if isinstance(it, Verified)} == {it.bundle for it in kept}
    assert len(shelf.found()) == 2
    assert shelf.where(one).read_bytes() == one
    assert shelf.find() == shelf.first, "the first build is what it was"


@pytest.mark.parametrize(
    "changes",
    [
        {"invocation": "of-another-build", "variation": None},
        {"invocation": "urn:uuid:12345678-1234-4234-8234-123456789abc"},
        {"directory": "examples/python"},
        {"attribute": "other"},
        {"derivation": StorePath("0" * 32, "guest-other.drv")},
    ],
)
def test_what_is_no_rebuild_of_it(shelf: Twice, changes: dict[str, Any]) -> None:
    bundle = shelf.bundle(**changes)
    with pytest.raises(RefusedError) as caught:
        shelf.again(bundle)
    assert caught.value.codes == (Code.PROVENANCE_MISMATCH,)
    assert shelf.found() == ()


def test_what_took_kept_parts_in_is_no_rebuild(shelf: Twice) -> None:
    shelf.world.keep_parts()
    with pytest.raises(RefusedError) as caught:
        shelf.again(shelf.world.provenance_bundle)
    assert Code.PARTS_MISMATCH in caught.value.codes


def test_what_does_not_verify_is_not_kept(shelf: Twice, tmp_path: Path) -> None:
    shelf.world.sign_provenance(key=PLANNER, **AGAIN)
    strangers = shelf.world.provenance_bundle
    for bundle, code in (
        (strangers, Code.SIGNER_ROLE),
        (other_world(tmp_path).provenance_bundle, Code.SUBJECT_MISMATCH),
        (b"{}", Code.BUNDLE_MALFORMED),
    ):
        with pytest.raises(RefusedError) as caught:
            shelf.again(bundle)
        assert code in caught.value.codes
    assert not (shelf.path / "rebuilds").exists()


def test_nothing_on_disk_is_believed(shelf: Twice) -> None:
    bundle = shelf.bundle()
    shelf.again(bundle)
    spoil(shelf.where(bundle))
    (refused,) = shelf.found()
    assert isinstance(refused, RefusedError)
    assert refused.codes == (Code.PROVENANCE_MISMATCH,)
    assert str(shelf.where(bundle)) in refused.hint


def test_a_bundle_that_somebody_put_there_counts_for_nothing(shelf: Twice) -> None:
    shelf.again(shelf.bundle())
    planted = shelf.first.evidence.provenance
    shelf.where(planted).write_bytes(planted)
    shelf.where(planted).chmod(0o600)
    assert [it.codes for it in shelf.found() if isinstance(it, RefusedError)] == [(Code.PROVENANCE_MISMATCH,)]
