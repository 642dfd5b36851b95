"""Flakes that mean no good, in real builder VMs: each has its expected refusal, or its harmless end."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.cli.builder_vm import Means
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from tests.conftest import World
from tests.workbench import Workbench

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent / "flakes"


@pytest.fixture(scope="module")
def hostile(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The flake beside this file, in a tree with mvm's own; as a copy that no commit has."""
    tree = tmp_path_factory.mktemp("hostile") / "tree"
    flake = tree / "hostile"
    shutil.copytree(HERE, flake)
    for name in ("flake.nix", "flake.lock", "modules", "profiles"):
        copy = shutil.copytree if (world.tree / name).is_dir() else shutil.copy
        copy(world.tree / name, tree / name)
    shutil.copy(world.tree / "modules/build.nix", flake)
    shutil.copy(world.tree / "modules/debian/lock.json", flake)
    text = (world.tree / "examples/hello/flake.lock").read_text()
    (flake / "flake.lock").write_text(text.replace('"../.."', '".."'))
    return f"path:{tree}?dir=hostile"


# Evaluations


@pytest.mark.parametrize(
    ("attribute", "code"),
    [
        ("unpinned-url", Code.FLAKE_UNLOCKED),
        ("pinned-url", Code.FLAKE_UNSUPPORTED),
        ("unpinned-tarball", Code.FLAKE_UNLOCKED),
        ("unpinned-git", Code.FLAKE_UNLOCKED),
        ("unpinned-tree", Code.FLAKE_UNLOCKED),
        ("host-file", Code.FLAKE_UNLOCKED),
        ("endless-file", Code.FLAKE_UNLOCKED),
        ("host-directory", Code.FLAKE_UNLOCKED),
        ("imported", Code.FLAKE_UNSUPPORTED),
        # derivations
        ("metadata", Code.SOURCE_UNKNOWN),
        ("wanted", Code.OUTPUT_MALFORMED),
    ],
)
def test_what_is_reached_for_is_refused_by_name(workbench: Workbench, hostile: str, attribute: str, code: Code) -> None:
    assert workbench.refusal(f"{hostile}#probing.{attribute}") == {code}


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("recursion", "max-call-depth exceeded"),
        ("black-hole", "infinite recursion"),
        ("search-path", "<nixpkgs>"),
        ("clock", "currentTime"),
        ("variable", "no-home-seen"),
        ("executed", "attribute 'exec' missing"),
        ("native", "attribute 'importNative' missing"),
        ("foreign-path", "00000000000000000000000000000000-x"),
        ("upwards", "does not exist"),
        # derivations
        ("no-sandbox", "__noChroot"),
        ("impure", "impure"),
        ("recursive", "recursive-nix"),
        ("foreign-system", "aarch64-linux"),
        ("fetched-by-nix", "169.254.169.254"),
    ],
)
def test_what_is_not_there_fails_in_nixs_words(workbench: Workbench, hostile: str, attribute: str, words: str) -> None:
    error = workbench.failure(f"{hostile}#probing.{attribute}")
    assert not isinstance(error, RefusedError)
    assert words in error.message


def test_an_evaluation_cannot_paint(workbench: Workbench, hostile: str) -> None:
    message = workbench.failure(f"{hostile}#probing.painted").message
    assert "title" in message
    assert all(c.isprintable() or c == "\n" for c in message)


# Builders: what they see, in their own words


def findings(workbench: Workbench, reference: str) -> str:
    error = workbench.failure(reference)
    assert type(error) is MvmnixError
    assert "probe-is-over" in error.message, "it looked everywhere"
    assert all(c.isprintable() or c == "\n" for c in error.message)
    return error.message


def test_a_builder_finds_no_network_and_no_channel(workbench: Workbench, hostile: str) -> None:
    said = findings(workbench, f"{hostile}#probing.network")
    assert "REACHED" not in said
    assert "interfaces: and: lo" in " ".join(said.split())
    assert "routes: 0" in said


def test_a_builder_finds_no_machine(workbench: Workbench, hostile: str) -> None:
    said = findings(workbench, f"{hostile}#probing.machine")
    assert not {"SEEN", "MADE-a-device", "MOUNTED"} & set(said.split())
    assert "caps: 0000000000000000 new-privs: 1" in said
    assert "user: 0 " not in said


def test_a_builder_finds_no_host(workbench: Workbench, hostile: str) -> None:
    said = findings(workbench, f"{hostile}#probing.host")
    assert not {"READ", "FOUND", "WROTE-a-sysctl"} & set(said.split())


def test_a_builder_changes_no_store(workbench: Workbench, hostile: str) -> None:
    said = findings(workbench, f"{hostile}#probing.store")
    assert "SAW-the-database" not in said


def test_a_flood_of_words_and_what_would_paint(workbench: Workbench, hostile: str) -> None:
    assert len(findings(workbench, f"{hostile}#probing.flood")) < 10_000
    assert "painted" in findings(workbench, f"{hostile}#probing.words")


# Outputs


@pytest.mark.parametrize(
    ("attribute", "codes"),
    [
        ("a-link", {Code.OUTPUT_MALFORMED}),
        ("a-link-to-itself", {Code.OUTPUT_MALFORMED}),
        ("a-directory-link", {Code.OUTPUT_MALFORMED}),
        ("a-set-uid-file", {Code.MANIFEST_MALFORMED}),
        ("hard-links", {Code.MANIFEST_MALFORMED}),
        ("no-files", {Code.OUTPUT_MALFORMED}),
        ("a-file", {Code.OUTPUT_MALFORMED}),
        ("a-large-manifest", {Code.OUTPUT_MALFORMED}),
        ("a-forged-manifest", {Code.ARTIFACT_MISMATCH}),
        ("forged-digests", {Code.ARTIFACT_MISMATCH, Code.DEPENDENCY_MISMATCH}),
        ("forged-verity", {Code.VERITY_MISMATCH}),
    ],
)
def test_what_is_no_image_is_not_taken(workbench: Workbench, hostile: str, attribute: str, codes: set[Code]) -> None:
    found = workbench.refusal(f"{hostile}#outputs.{attribute}")
    assert found
    assert found <= codes


@pytest.mark.parametrize("attribute", ["a-fifo", "a-device"])
def test_what_nix_does_not_let_out(workbench: Workbench, hostile: str, attribute: str) -> None:
    error = workbench.failure(f"{hostile}#outputs.{attribute}")
    assert type(error) is MvmnixError


@pytest.mark.parametrize("attribute", ["forged-provenance", "odd-names"])
def test_what_lies_beside_the_four_files_is_left_there(workbench: Workbench, hostile: str, attribute: str) -> None:
    honest = workbench.build(f"{hostile}#hello").image
    assert workbench.build(f"{hostile}#outputs.{attribute}").image == honest


# What never ends, in VMs of their own


@pytest.fixture
def bounded(world: World, tmp_path: Path) -> Iterator[Workbench]:
    """A builder VM that is small, and has little time."""
    means = Means(vcpus=2, memory_mib=1024, scratch_mib=640, seconds=45)
    with Workbench(world.copy(tmp_path / "home"), means) as bench:
        yield bench


@pytest.mark.parametrize("attribute", ["build", "forks", "evaluation"])
def test_what_never_ends_is_ended_by_its_time(bounded: Workbench, hostile: str, attribute: str) -> None:
    error = bounded.failure(f"{hostile}#endless.{attribute}")
    assert not isinstance(error, RefusedError)
    assert "time" in error.message or "memory" in error.message


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("disk", "disk is full"),
        ("files", "disk is full"),
        ("memory", "out of memory"),
        ("closure", "memory"),
        ("string", "memory"),
    ],
)
def test_what_takes_everything_is_told_by_name(bounded: Workbench, hostile: str, attribute: str, words: str) -> None:
    error = bounded.failure(f"{hostile}#endless.{attribute}")
    assert words in error.message
    assert error.hint


def test_a_sparse_file_of_terabytes(bounded: Workbench, hostile: str) -> None:
    """Nix reads all of it to know its hash: it is ended by its time, and not a byte of it lands on the host."""
    assert type(bounded.failure(f"{hostile}#endless.sparse")) is not RefusedError
