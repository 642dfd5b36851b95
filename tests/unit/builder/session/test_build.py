"""A build of a closure in a VM of its own, from an evaluation to a record; and how its failures are told."""

from dataclasses import replace

import pytest

from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session import archive_import
from mvmnix.builder.session.import_outputs import OUTPUTS
from mvmnix.builder.session.session import BuildInputs
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import StorePath
from mvmnix.provenance.slsa.provenance import KeptPath
from tests.derivations import exported, exported_archives, guest
from tests.fakes import files_of, nar_of
from tests.unit.builder.session.site import SEED, TOOL, Site
from tests.unit.provenance.world import DEB


def test_what_is_built_and_recorded(site: Site) -> None:
    record = site.build()
    assert record.image == site.world.image
    assert record.given == BuildInputs(tuple(sorted((DEB, TOOL, SEED))))
    assert (record.derivation, record.nix) == (site.machine.guest[0], "2.26.3")
    assert record.request is site.request
    assert record.started <= record.finished
    assert record.started.tzinfo is not None
    for artifact in record.image.artifacts:
        assert site.images.size(artifact.digest) == artifact.size
    assert site.progress.steps == ["evaluating", "fetching sources", "building", "receiving"]
    assert b"build says that it works" in site.progress.said


def test_what_is_asked_of_the_machine(site: Site) -> None:
    site.build()
    flake = site.request.flake
    root, derivations = site.machine.guest
    assert site.machine.calls == [
        nix_commands.fetch_trees([flake.store_path]),
        nix_commands.evaluate(nix_commands.flake_url(flake.store_path, flake.nar, "in"), "hello"),
        nix_commands.export_closure([root]),
    ]
    (file,) = (path for path in site.builder.have if path.name == "derivations")
    assert site.builder.calls == [
        nix_commands.version(),
        nix_commands.fetch_trees([file]),
        nix_commands.import_derivations(file),
        nix_commands.build([root], jobs=2),
        nix_commands.archive(site.machine.output, ("kernel", "initrd", "rootfs", "manifest.json")),
    ]
    assert site.builder.imported == derivations
    for environment in (*site.machine.environments, *site.builder.environments):
        assert environment["PATH"] == "/usr/bin:/usr/sbin"
        assert set(environment) == {"HOME", "PATH", "LANG", "USER", "TMPDIR"}


def test_what_the_machines_were_given(site: Site) -> None:
    """The one that builds gets no tree of the flake's, no lock and no expression."""
    site.build()
    assert site.machine.received == {"source": site.request.flake.archive}
    assert site.builder.received.pop("derivations")
    assert site.builder.received == {
        DEB.name: nar_of(b"bash"),
        TOOL.name: nar_of(b"tool"),
        SEED.name: nar_of(b"seed"),
    }


TREE = nar_of(b"int main;")
TREE_PATH = StorePath.recursive("agent-source", Digest.of(TREE))


def test_a_tree_that_derivations_are_made_from_is_handed_on(site: Site) -> None:
    site.machine.trees = {TREE_PATH: TREE}
    record = site.build()
    assert site.builder.received["agent-source"] == TREE
    assert TREE_PATH in site.builder.have
    assert record.given == BuildInputs(tuple(sorted((DEB, TOOL, SEED)))), "it is no input: evaluation made it of some"


def test_a_file_that_evaluation_wrote_and_what_it_refers_to(site: Site) -> None:
    data = f"see {TREE_PATH}".encode()
    path = StorePath.text("notes", Digest.of(data), [TREE_PATH])
    site.machine.trees = {path: nar_of(data)}
    site.machine.answers = {"trees": exported_archives({TREE_PATH: TREE, path: nar_of(data)}, {path: [TREE_PATH]})}
    site.build()
    assert {path, TREE_PATH} <= site.builder.have


def test_a_file_that_is_hashed_flat(site: Site) -> None:
    """As `builtins.path { recursive = false; }` makes it."""
    path = StorePath.flat("notes", Digest.of(b"notes"))
    site.machine.trees = {path: nar_of(b"notes")}
    site.build()
    assert path in site.builder.have


def test_what_evaluation_made_is_never_a_source(site: Site) -> None:
    """A fixed output may have the hash of a tree: its address is asked all the same."""
    site.machine.trees = {TREE_PATH: TREE}
    site.evaluate()
    assert not site.store.has(Digest.of(TREE))
    assert not list((site.path / "sources").glob("*.tmp"))


def test_many_trees_come_in_several_calls(site: Site) -> None:
    archives = {f"file-{number}": nar_of(str(number).encode()) for number in range(nix_commands.MOST_NAMES + 1)}
    site.machine.trees = {StorePath.recursive(name, Digest.of(it)): it for name, it in archives.items()}
    site.build()
    assert sum("trees" in call for call in site.machine.calls) == 2
    assert set(site.machine.trees) <= site.builder.have


def test_a_lock_s_tree_that_derivations_are_made_from_comes_from_the_host(site: Site) -> None:
    """And so is admitted by the policy, and on record, even where it is only referred to and the VM has its bytes."""
    node = next(it for it in site.request.lock.locked if it.name == "used")
    data = f"see {node.source.store_path}".encode()
    path = StorePath.text("notes", Digest.of(data), [node.source.store_path])
    site.machine.trees = {path: nar_of(data)}
    archives = {path: nar_of(data), node.source.store_path: nar_of(b"other")}
    site.machine.answers = {"trees": exported_archives(archives, {path: [node.source.store_path]})}
    refused = site.refusal(ReasonCode.OUTPUT_MALFORMED)
    assert str(node.source.store_path) in refused.reasons[0].why, "other bytes than the lock's"


def test_the_flake_s_own_tree_is_handed_on_as_it_came(site: Site) -> None:
    """Where a derivation is made from all of it; the VM isn't asked for bytes that are here."""
    site.machine.known = (site.request.flake.store_path,)
    site.build()
    assert site.builder.received["source"] == site.request.flake.archive
    assert not any("trees" in call for call in site.machine.calls)


OTHER = nar_of(b"evil")
TRIGGER = StorePath.recursive("trigger", Digest.of(OTHER))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(exported_archives({TREE_PATH: OTHER}), id="other bytes under its path"),
        pytest.param(exported_archives({TREE_PATH: TREE}, {TREE_PATH: [TREE_PATH]}), id="a reference to itself"),
        pytest.param(exported_archives({}), id="nothing"),
        pytest.param(exported_archives({StorePath.recursive("x", Digest.of(OTHER)): OTHER}), id="another tree"),
        pytest.param(exported_archives({StorePath.flat("agent-source", Digest.of(TREE)): TREE}), id="a flat path"),
        pytest.param(exported_archives({TREE_PATH: TREE, TRIGGER: OTHER}), id="one that nothing is made from"),
        pytest.param(exported_archives({TREE_PATH: TREE, DEB.store_path: nar_of(b"bash")}), id="a fixed output"),
        pytest.param(exported_archives({TREE_PATH: TREE})[:-8], id="no end"),
        pytest.param(b"", id="no export"),
        pytest.param(exported_archives({TREE_PATH: TREE[:-8]}), id="an archive that is cut off"),
    ],
)
def test_a_tree_that_isn_t_what_its_path_says_is_refused(site: Site, said: bytes) -> None:
    """So no VM that evaluates hands bytes of its choice to a build: under whatever path, they make another one."""
    site.machine.trees, site.machine.answers = {TREE_PATH: TREE}, {"trees": said}
    site.refusal(ReasonCode.OUTPUT_MALFORMED)
    assert site.builder.calls == []
    assert not list((site.path / "sources").iterdir()), "nothing of it is kept, under whatever name"


def test_a_tree_whose_path_follows_from_a_derivation_is_refused(site: Site) -> None:
    """An output that evaluation built and names as a source: its path would bind no bytes."""
    path = StorePath("1" * 32, "imported")
    site.machine.trees = {path: TREE}
    why = site.refusal(ReasonCode.OUTPUT_MALFORMED).reasons[0].why
    assert why == f"{path} has its path from something else than its bytes"


@pytest.mark.parametrize("bound", ["LIMIT", "MAX_PATHS"])
def test_trees_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    site.machine.trees = {TREE_PATH: TREE}
    exact = {"LIMIT": len(exported_archives(site.machine.trees)), "MAX_PATHS": 1}[bound]
    monkeypatch.setattr(archive_import, bound, exact)
    site.build()
    monkeypatch.setattr(archive_import, bound, exact - 1)
    assert "more than" in site.refusal(ReasonCode.OUTPUT_MALFORMED).reasons[0].why
    assert not list((site.path / "sources").glob("*.tmp"))


def test_only_what_was_asked_for_counts_as_given(site: Site) -> None:
    site.machine = replace(site.machine, answers={"build": str(site.machine.output).encode() + b"\n"})
    assert site.build().given == BuildInputs(())
    assert set(site.market.asked) == {it.uri for it in (DEB, TOOL, SEED)}


@pytest.mark.parametrize("call", ["eval", "build"])
def test_what_the_kernel_killed_is_told_by_name(site: Site, call: str) -> None:
    site.machine.answers = {"pressure": b"oom_kill 1\n"}
    error = site.fails(call, "error: in pure evaluation mode")
    assert not isinstance(error, RefusedError)
    assert "ran out of memory, and its kernel killed 1 process;" in error.message
    assert "--memory" in error.hint


def test_an_output_that_has_no_image_s_files_is_refused(site: Site) -> None:
    error = site.fails("tar", "/usr/bin/tar: rootfs: Cannot stat: \x1b[2JNo such file or directory\n")
    assert isinstance(error, RefusedError)
    assert error.codes == (ReasonCode.OUTPUT_MALFORMED,)
    assert "rootfs: Cannot stat: ?[2JNo such file" in str(error)


@pytest.mark.parametrize("call", ["version", "realise", "eval", "closure", "trees", "import", "build"])
def test_any_other_failure_shows_its_last_words(site: Site, call: str) -> None:
    site.machine.trees = {TREE_PATH: TREE}
    words = "".join(f"line {number}\n" for number in range(100)) + "error: \x1b[31mgcc: no such file\n"
    error = site.fails(call, words)
    assert error.exit_code == 125
    assert "line 99" in error.message
    assert "line 79" not in error.message
    assert "?[31mgcc: no such file" in error.message
    assert words.encode() in site.progress.said, "the log has them as they were"


@pytest.mark.parametrize("said", [b"", b"/etc/passwd\n", b"/nix/store/" + b"1" * 32 + b"-x\n", b"\xff"])
def test_where_the_output_is_follows_from_the_derivation_whatever_the_build_prints(site: Site, said: bytes) -> None:
    site.machine.answers = {"build": said}
    site.build()
    assert site.builder.calls[-1] == nix_commands.archive(site.machine.output, OUTPUTS)


MOST = 10_000_000
#: What a builder that was taken over prints in the place of an answer, by the call.
LIES = {
    "an option for a derivation": ("eval", b"--option\n"),
    "a path upwards": ("eval", f"/nix/store/{'1' * 32}-x/../../x".encode()),
    "a version without end": ("version", b"a" * MOST),
    "a closure that is none": ("closure", b"a" * 1000),
    "an empty closure": ("closure", exported({})),
    "the closure of another derivation": ("closure", exported(guest(TOOL)[1])),
    "no archive": ("tar", b""),
    "an empty archive": ("tar", b"\0" * 10_000),
    "something else than an archive": ("tar", b"kernel" * 1000),
}


@pytest.mark.parametrize(("call", "said"), LIES.values(), ids=LIES)
def test_a_lie_is_refused(site: Site, call: str, said: bytes) -> None:
    site.machine.answers = {call: said}
    with pytest.raises(RefusedError) as refusal:
        site.build()
    assert set(refusal.value.codes) == {ReasonCode.OUTPUT_MALFORMED}


def test_a_version_that_is_none_ends_nothing(site: Site) -> None:
    site.machine.answers = {"version": b"\xff"}
    assert site.build().nix == "unknown"


def test_an_output_that_is_no_image_leaves_nothing(site: Site) -> None:
    site.machine.files = files_of(site.world) | {"kernel": b"another"}
    site.refusal(ReasonCode.ARTIFACT_MISMATCH)
    assert not list((site.path / "images").iterdir())


def test_a_source_whose_bytes_changed_on_disk_is_not_given(site: Site) -> None:
    site.store.put(b"tool", TOOL.digest)
    (site.path / "sources" / TOOL.digest.hex).write_bytes(b"evil")
    site.refusal(ReasonCode.SOURCE_MISMATCH)


# Parts that were kept (docs/adr/0015)

PART = KeptPath(StorePath("5" * 32, "initrd"), Digest.of(nar_of(b"initrd")), Digest.of(b"a statement"))


def test_a_kept_part_that_was_asked_for_is_recorded_with_its_statement(site: Site) -> None:
    unused = KeptPath(StorePath("6" * 32, "vmlinux"), PART.nar, PART.bundle)
    site.store.put(nar_of(b"initrd"), PART.nar)
    site.machine.wants = (PART.path,)
    record = site.build(parts=(PART, unused))
    assert record.given == BuildInputs(tuple(sorted((DEB, TOOL, SEED))), kept=(PART,)), "it is no source"
    assert site.machine.received["initrd"] == nar_of(b"initrd")


def test_without_kept_parts_the_same_path_is_a_miss(site: Site) -> None:
    site.machine.wants = (PART.path,)
    with pytest.raises(MvmnixError, match="does not exist and cannot be created"):
        site.build()
