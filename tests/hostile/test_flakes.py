"""Flakes that mean no good, in real builder VMs: each has its expected refusal, or its harmless end.

Nothing here waits for a guest longer than the host lets it: each build ends after PATIENCE, by the host's clock, and
what never ends runs in machines whose plans give them seconds.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvmnix.api.build_limits import BuildLimits
from mvmnix.errors import GuestTimeoutError, MvmnixError, RefusedError
from mvmnix.errors import ReasonCode as Code
from mvmnix.images.make_provenance import check_sources
from tests.conftest import World
from tests.hypervisors import hypervisors
from tests.integration.misbehaving import Server
from tests.patience import PATIENCE, scaled
from tests.sample import sample
from tests.vm.machines import states
from tests.workbench import Workbench

pytestmark = pytest.mark.vm

HERE = Path(__file__).parent / "flakes"


@pytest.fixture(scope="module")
def liar() -> Iterator[str]:
    """The origin of a server that answers every question with the same bytes."""
    with Server(name="127.0.0.1", otherwise=lambda it: it.answer(b"what was never pinned")) as server:
        yield server.origin


@pytest.fixture(scope="module")
def hostile(world: World, liar: str, tmp_path_factory: pytest.TempPathFactory) -> str:
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
    (flake / "origin").write_text(liar)
    return f"path:{tree}?dir=hostile"


@pytest.fixture(scope="module")
def builder(world: World, liar: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A builder VM for all that ends by itself; its user lets inputs come from the server that lies."""
    inmate = world.copy(tmp_path_factory.mktemp("hostile") / "home")
    inmate.home.list_server(liar)
    with Workbench(inmate, BuildLimits(seconds=PATIENCE)) as bench:
        bench.patience = PATIENCE
        yield bench


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
        ("search-path", Code.FLAKE_UNLOCKED),
        ("foreign-path", Code.FLAKE_UNLOCKED),
        ("upwards", Code.FLAKE_UNLOCKED),
        ("imported", Code.FLAKE_UNSUPPORTED),
        # derivations
        ("metadata", Code.FETCH_NOT_ALLOWED),
        ("other-bytes", Code.SOURCE_MISMATCH),
        ("wanted", Code.OUTPUT_MALFORMED),
    ],
)
def test_what_is_reached_for_is_refused_by_name(builder: Workbench, hostile: str, attribute: str, code: Code) -> None:
    assert builder.refusal(f"{hostile}#probing.{attribute}") == {code}


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("recursion", "max-call-depth exceeded"),
        ("black-hole", "infinite recursion"),
        ("clock", "currentTime"),
        ("variable", "no-home-seen"),
        ("executed", "attribute 'exec' missing"),
        ("native", "attribute 'importNative' missing"),
        ("top-directory", "seen at the top: nix."),
        # derivations
        ("no-sandbox", "__noChroot"),
        ("impure", "impure"),
        ("recursive", "recursive-nix"),
        ("foreign-system", "aarch64-linux"),
        ("fetched-by-nix", "fixed-output or impure derivation"),
    ],
)
def test_what_is_not_there_fails_in_nixs_words(builder: Workbench, hostile: str, attribute: str, words: str) -> None:
    error = builder.failure(f"{hostile}#probing.{attribute}")
    assert not isinstance(error, RefusedError)
    assert words in error.message


def test_an_evaluation_cannot_paint(builder: Workbench, hostile: str) -> None:
    message = builder.failure(f"{hostile}#probing.painted").message
    assert "title" in message
    assert all(c.isprintable() or c == "\n" for c in message)


# Builders: what they see, in their own words


def findings(bench: Workbench, reference: str) -> str:
    error = bench.failure(reference)
    assert type(error) is MvmnixError
    assert "probe-is-over" in error.message, "it looked everywhere"
    assert all(c.isprintable() or c == "\n" for c in error.message)
    return error.message


def test_a_builder_finds_no_network_and_no_channel(builder: Workbench, hostile: str) -> None:
    said = findings(builder, f"{hostile}#probing.network")
    assert "REACHED" not in said
    assert "interfaces: and: lo" in " ".join(said.split())
    assert "routes: 0" in said


def test_a_builder_finds_no_machine(builder: Workbench, hostile: str) -> None:
    said = findings(builder, f"{hostile}#probing.machine")
    assert not {"SEEN", "MADE-a-device", "MOUNTED"} & set(said.split())
    assert "caps: 0000000000000000 new-privs: 1" in said
    assert "user: 0 " not in said


def test_a_builder_finds_no_host(builder: Workbench, hostile: str) -> None:
    said = findings(builder, f"{hostile}#probing.host")
    assert not {"READ", "FOUND", "WROTE-a-sysctl"} & set(said.split())


def test_a_builder_finds_no_other_build(builder: Workbench, hostile: str) -> None:
    builder.progress.said = b""
    assert "FOUND" not in findings(builder, f"{hostile}#probing.neighbours")
    said = builder.progress.said
    assert 0 < said.find(b"the-neighbour-works") < said.find(b"the-last-look"), "they ran at the same time"


def test_a_builder_changes_no_store(builder: Workbench, hostile: str) -> None:
    """It may write to the directory that it takes for the store; nothing of that is there afterwards."""
    said = findings(builder, f"{hostile}#probing.store")
    assert not {"WROTE-an-input", "WROTE-into-an-input", "SAW-the-database"} & set(said.split())
    assert b"evil" not in builder.says("/bin/busybox", "ls", "/nix/store").split()


def test_a_flood_of_words_and_what_would_paint(builder: Workbench, hostile: str) -> None:
    assert len(findings(builder, f"{hostile}#probing.flood")) < 10_000
    assert "painted" in findings(builder, f"{hostile}#probing.words")


# Outputs


@pytest.mark.parametrize(
    ("attribute", "codes"),
    [
        ("a-link", {Code.OUTPUT_MALFORMED}),
        ("a-link-to-itself", {Code.OUTPUT_MALFORMED}),
        ("a-directory-link", {Code.OUTPUT_MALFORMED}),
        ("hard-links", {Code.OUTPUT_MALFORMED}),
        ("no-files", {Code.OUTPUT_MALFORMED}),
        ("a-file", {Code.OUTPUT_MALFORMED}),
        ("a-large-manifest", {Code.OUTPUT_MALFORMED}),
        ("a-forged-manifest", {Code.ARTIFACT_MISMATCH}),
        ("forged-digests", {Code.ARTIFACT_MISMATCH}),
        ("forged-verity", {Code.VERITY_MISMATCH}),
    ],
)
def test_what_is_no_image_is_not_taken(builder: Workbench, hostile: str, attribute: str, codes: set[Code]) -> None:
    assert builder.refusal(f"{hostile}#outputs.{attribute}") == codes


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("a-fifo", "has an unsupported type"),
        ("a-socket", "has an unsupported type"),
        ("a-device", "Operation not permitted"),
        ("a-set-uid-file", "Operation not permitted"),
    ],
)
def test_what_nix_does_not_let_out(builder: Workbench, hostile: str, attribute: str, words: str) -> None:
    error = builder.failure(f"{hostile}#outputs.{attribute}")
    assert type(error) is MvmnixError
    assert words in error.message


@pytest.mark.parametrize("attribute", ["forged-provenance", "odd-names"])
def test_what_lies_beside_the_four_files_is_left_there(builder: Workbench, hostile: str, attribute: str) -> None:
    honest = builder.build(f"{hostile}#hello").image
    assert builder.build(f"{hostile}#outputs.{attribute}").image == honest


def test_sources_that_never_came_in_are_not_named(builder: Workbench, hostile: str) -> None:
    parts = [kept.claim for kept in builder.stock.statements.values()]
    check_sources(builder.build(f"{hostile}#hello"), parts)
    record = builder.build(f"{hostile}#outputs.forged-sources")
    with pytest.raises(RefusedError) as refused:
        check_sources(record, parts)
    assert refused.value.codes == (Code.DEPENDENCY_MISMATCH,)


def test_what_one_build_does_to_its_store_the_next_one_never_sees(builder: Workbench, hostile: str) -> None:
    """A builder that broke out of Nix's sandbox could write as Nix's own user, and change what later builds take."""
    builder.build(f"{hostile}#hello")
    user = builder.world.home
    (book,) = (user.state / "parts").iterdir()
    parts = [part["path"] for part in json.loads(book.read_bytes())["kept"]]
    script = (
        'for part; do [ -e "$part" ] || continue; chmod -R u+w "$part"; find "$part" -type f | head -n 5 |'
        ' while read -r file; do echo evil > "$file"; grep -l "^evil$" "$file"; done; done'
    )
    changed = builder.says("/bin/busybox", "sh", "-c", script, "poison", *parts).decode().splitlines()
    assert len(changed) > 5, "it has changed what hello is made of"
    builder.renew()
    again = user.mvm("build", "--again", "--out", user.path / "again", "./examples/hello", cwd=builder.world.tree)
    assert again.returncode == 0, again.stderr.decode()
    for name in ("kernel", "initrd", "rootfs", "manifest.json"):
        assert (user.path / "again" / name).read_bytes() == (builder.world.hello / name).read_bytes()
    assert b"built again" not in again.stderr, "the kept parts were good"


# What never ends, and what never has enough


@pytest.fixture(scope="module")
def small(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """Builder VMs with little memory, one for each attack."""
    means = BuildLimits(vcpus=2, memory_mib=768, scratch_mib=256, seconds=PATIENCE)
    with Workbench(world.copy(tmp_path_factory.mktemp("small") / "home"), means) as bench:
        yield bench


@pytest.fixture(scope="module")
def brief(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """The same with little time, if enough to begin: a guest gets ten seconds more to end by itself, then is ended."""
    means = BuildLimits(vcpus=2, memory_mib=768, scratch_mib=256, seconds=scaled(40))
    with Workbench(world.copy(tmp_path_factory.mktemp("brief") / "home"), means) as bench:
        yield bench


@contextmanager
def attacked(bench: Workbench, begun: int = 1) -> Iterator[None]:
    """An attack begins, and afterwards nothing of its machine is left."""
    before = states(bench.world).keys()
    bench.progress.said = b""
    try:
        yield
    finally:
        bench.renew()
    assert len(re.findall(rb"^(?:trace: )?attack-has-begun$", bench.progress.said, re.MULTILINE)) == begun
    assert hypervisors(bench.world.home) == []
    (machine,) = states(bench.world).keys() - before
    assert states(bench.world)[machine]["state"] == "ended"


@pytest.mark.parametrize(("attribute", "begun"), sample([("evaluation", 1), ("work", 2), ("sparse", 1)], 1))
def test_what_never_ends_is_ended_by_its_time(brief: Workbench, hostile: str, attribute: str, begun: int) -> None:
    with attacked(brief, begun):
        assert isinstance(brief.failure(f"{hostile}#endless.{attribute}"), GuestTimeoutError)


@pytest.mark.parametrize("attribute", sample(["forks", "closure", "string"], 1))
def test_what_starves_the_guest_is_ended_by_its_time_or_by_its_kernel(
    brief: Workbench, hostile: str, attribute: str
) -> None:
    """Which of the two comes first is the guest's affair; the host's clock needs nothing of it."""
    with attacked(brief):
        error = brief.failure(f"{hostile}#endless.{attribute}")
    assert isinstance(error, GuestTimeoutError) or "ran out of memory" in error.message


@pytest.mark.parametrize(
    ("attribute", "words", "option"),
    sample(
        [
            ("disk", "the builder VM's disk is full", "--disk"),
            ("files", "the builder VM's disk is full: there is room for ", "--disk"),
            ("memory", "the builder VM ran out of memory", "--memory"),
            ("text", "error: out of memory", ""),
        ],
        1,
    ),
)
def test_what_takes_everything_is_told_by_name(
    small: Workbench, hostile: str, attribute: str, words: str, option: str
) -> None:
    with attacked(small):
        error = small.failure(f"{hostile}#endless.{attribute}")
        assert words in error.message
        assert option in error.hint
