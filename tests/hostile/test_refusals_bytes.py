"""A flipped byte is refused: kernel, initrd, header of the root file system, manifest, bundle, plan, lock, policy."""

import os
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from mvmnix.model import Verity
from tests.hostile.rig import FILES, Rig, flipped, flipped_file, replaced
from tests.policies import effective

pytestmark = pytest.mark.vm

#: How many positions are tried of each text; they are spread over all of it.
TRIED = 60


def spread(size: int, count: int = TRIED) -> list[int]:
    """Positions over a whole file, its first and last byte among them."""
    return sorted({0, size - 1, *(size * step // count + step * 7 % max(1, size // count) for step in range(count))})


@pytest.fixture
def loosened(rig: Rig, loose: dict[str, Path]) -> Rig:
    """A rig whose large files may be damaged in place."""
    rig.files = dict(loose)
    return rig


@pytest.mark.parametrize("name", ["kernel", "initrd"])
def test_boot_files(loosened: Rig, name: str) -> None:
    path = loosened.files[name]
    for position in spread(path.stat().st_size, 6):
        with flipped_file(path, position):
            assert loosened.refusal() == {Code.ARTIFACT_MISMATCH}, position
    loosened.admit().close()


def test_the_header_of_the_root_file_system(loosened: Rig) -> None:
    """Superblock and top hash block, one bit of each field and of what pads them."""
    start = loosened.image.verity.hash_offset
    superblock = (0, 8, 12, 16, 31, 32, 40, 64, 68, 72, 79, 80, 82, 88, 103, 104, 343, 344, Verity.BLOCK - 1)
    top = [Verity.BLOCK + position for position in spread(Verity.BLOCK, 8)]
    for position in (*superblock, *top):
        with flipped_file(loosened.files["rootfs"], start + position):
            assert loosened.refusal() == {Code.VERITY_MISMATCH}, position
    loosened.admit().close()


def test_the_size_of_the_root_file_system(loosened: Rig, tmp_path: Path) -> None:
    path = loosened.files["rootfs"]
    size = path.stat().st_size
    for other in (size + 1, size + Verity.BLOCK):
        os.truncate(path, other)
        assert loosened.refusal() == {Code.VERITY_MISMATCH}
        os.truncate(path, size)
    for other in (0, Verity.BLOCK, loosened.image.verity.hash_offset, size - 1):
        shorter = tmp_path / "shorter"
        shorter.write_bytes(path.read_bytes()[:other])
        loosened.files["rootfs"] = shorter
        assert loosened.refusal() == {Code.VERITY_MISMATCH}, other
    loosened.files["rootfs"] = path
    loosened.admit().close()


#: By which reasons a text of a signed plan is refused, one or more.
SPOILT = {Code.BUNDLE_MALFORMED, Code.BUNDLE_NOT_CANONICAL, Code.SIGNER_UNKNOWN, Code.SIGNATURE_INVALID}


@pytest.mark.parametrize(
    ("name", "codes", "tried"),
    [
        ("manifest", {Code.PLAN_MISMATCH}, TRIED),
        ("provenance", {Code.PROVENANCE_MISMATCH}, TRIED),
        ("plan", SPOILT, 4 * TRIED),
    ],
)
def test_the_plan_and_what_it_names(rig: Rig, name: str, codes: set[Code], tried: int) -> None:
    good = getattr(rig, name)
    for position in spread(len(good), tried):
        setattr(rig, name, flipped(good, position))
        assert set() < rig.refusal() <= codes, position
    setattr(rig, name, good)
    rig.admit().close()


def test_the_lock(rig: Rig) -> None:
    good = rig.lock
    assert good is not None
    for position in spread(len(good)):
        rig.lock = flipped(good, position)
        assert Code.LOCK_MISMATCH in rig.refusal(), position
    rig.lock = good
    rig.admit().close()


def test_the_provenance_with_a_plan_for_it(rig: Rig) -> None:
    """The planner signs whatever bundle lies there: what the builder signed is still what counts."""
    good = rig.provenance
    for position in spread(len(good)):
        rig.provenance = flipped(good, position)
        rig.sign_plan()
        assert rig.refusal() & SPOILT, position


def test_the_policy(rig: Rig) -> None:
    """What still reads as a policy is another one: the plan was not made under it, even when it means the same."""
    good = (rig.home.config / "trust.toml").read_bytes()
    before = rig.policy
    for position in spread(len(good)):
        try:
            rig.policy = effective(None, flipped(good, position))
        except RefusedError as error:
            assert set(error.codes) <= {Code.POLICY_MALFORMED, Code.POLICY_EMPTY}
        else:
            assert rig.refusal() & {Code.POLICY_MISMATCH, Code.SIGNER_UNKNOWN, Code.SIGNER_ROLE}, position
    rig.policy = before
    rig.admit().close()


# The same through the command: files in the user's own state, their times put back.


def damaged(path: Path, position: int) -> bytes:
    """Put a copy with one flipped bit, and the old times, in the place of a file; returns what was there."""
    good, before = path.read_bytes(), path.stat()
    replaced(path, flipped(good, position))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return good


def test_files_that_the_library_keeps(rig: Rig) -> None:
    header = rig.image.verity.hash_offset
    positions = {"kernel": 1000, "initrd": -1, "rootfs": header + 20}
    for name in FILES:
        path = rig.stored(name)
        good = damaged(path, positions[name])
        all_hashed = rig.told("run", "./examples/hello", cwd=rig.world.tree)
        assert all_hashed == {Code.ARTIFACT_MISMATCH, Code.SUBJECT_MISMATCH}, name
        assert rig.launch() & {Code.ARTIFACT_MISMATCH, Code.VERITY_MISMATCH}, name
        replaced(path, good)
    rig.runs()


@pytest.mark.parametrize("kind", ["images", "bundles", "locks"])
def test_texts_that_the_library_keeps(rig: Rig, kind: str) -> None:
    """Manifest, bundle and lock are known by their digests; one with other bytes is not what the index means."""
    digest = {"images": rig.entry.manifest, "bundles": rig.entry.bundle, "locks": rig.entry.lock}[kind]
    assert digest is not None
    path = rig.home.state / kind / digest.hex
    good = damaged(path, 50)
    assert len(rig.told("run", "./examples/hello", cwd=rig.world.tree)) == 1
    replaced(path, good)
    damaged(path, -2)
    assert len(rig.launch()) == 1
    replaced(path, good)
    rig.runs()


def test_an_index_that_points_to_another_build(rig: Rig) -> None:
    """Both builds verify; that one was not built from this flake."""
    builds = rig.home.state / "builds"
    good = (builds / rig.key).read_bytes()
    replaced(builds / rig.key, (builds / rig.builder_key).read_bytes())
    assert rig.told("run", "./examples/hello", cwd=rig.world.tree) == {Code.PROVENANCE_MISMATCH}
    replaced(builds / rig.key, good)
    rig.runs()


def test_a_plan_that_lies_in_a_file(rig: Rig) -> None:
    good = rig.plan
    for position in (3, len(good) // 2, len(good) - 3):
        rig.plan = flipped(good, position)
        assert len(rig.launch()) >= 1


def test_an_exported_image(rig: Rig, tmp_path: Path) -> None:
    """`mvm verify` hashes all of it, data blocks among it."""
    for name, data in {it.name: it.read_bytes() for it in rig.world.hello.iterdir()}.items():
        (tmp_path / name).write_bytes(data)
    assert rig.home.mvm("verify", tmp_path).returncode == 0
    for name in ("kernel", "rootfs"):
        with flipped_file(tmp_path / name, 5):
            assert rig.told("verify", tmp_path, status=1) == {Code.ARTIFACT_MISMATCH, Code.SUBJECT_MISMATCH}
    for name in ("manifest.json", "provenance.sigstore.json", "flake.lock"):
        with flipped_file(tmp_path / name, 5):
            assert rig.told("verify", tmp_path, status=1)
    assert rig.home.mvm("verify", tmp_path).returncode == 0
