"""Checkpoint anchors: what a file, a command and a branch keep, what they notice, and what happens when they can't."""

import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mvmnix.audit import anchored_log, anchors
from mvmnix.audit.anchored_log import AnchoredLog, check_against_all
from mvmnix.audit.anchors import Anchor, CommandAnchor, FileAnchor, GitAnchor
from mvmnix.audit.git_branch import GitBranch, Tip
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.verify import verify_log
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.support.refusals import refusal_codes
from tests.unit.audit.world import KEY, NOON, World, checkpoint, new_signer, record


def git(repository: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)
    return done.stdout.decode().strip()


def file_anchor(path: Path) -> Anchor:
    (path / "elsewhere").mkdir(mode=0o700)
    return FileAnchor("usb", True, str(path / "elsewhere/checkpoint"))


def git_anchor(path: Path) -> Anchor:
    subprocess.run(["git", "init", "-q", "--bare", str(path / "kept.git")], check=True)
    hook = path / "kept.git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {path}/hooked\n")
    hook.chmod(0o755)
    return GitAnchor("branch", True, str(path / "kept.git"), "audit/host-1", 60)


def git_branch(path: Path) -> GitBranch:
    """The branch of `git_anchor`, with a file of any size."""
    return GitBranch(str(path / "kept.git"), "audit/host-1", "checkpoint", 60, 1 << 30)


KEEPERS: dict[str, Callable[[Path], Anchor]] = {"file": file_anchor, "git": git_anchor}


@pytest.fixture(params=KEEPERS)
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Anchor:
    return KEEPERS[request.param](tmp_path)


def test_an_anchor_keeps_the_latest(keeper: Anchor) -> None:
    assert keeper.latest() is None
    for size in (1, 2, 5):
        keeper.take(checkpoint(size), KEY)
        assert keeper.latest() == checkpoint(size).note
    keeper.take(checkpoint(3), KEY)
    assert keeper.latest() == checkpoint(5).note, "an older one comes from a process that was slower"
    keeper.take(checkpoint(5), KEY)
    assert keeper.latest() == checkpoint(5).note


def test_a_fork_is_noticed(keeper: Anchor) -> None:
    keeper.take(checkpoint(3), KEY)
    with pytest.raises(MvmnixError, match="forked"):
        keeper.take(checkpoint(3, first=7), KEY)
    assert keeper.latest() == checkpoint(3).note


def test_another_log_is_noticed(keeper: Anchor) -> None:
    keeper.take(checkpoint(3, seed=2), new_signer(2).key)
    with pytest.raises(MvmnixError, match="not a checkpoint of this log"):
        keeper.take(checkpoint(9), KEY)
    assert keeper.latest() == checkpoint(3, seed=2).note


def test_a_branch_has_a_commit_for_each(tmp_path: Path) -> None:
    keeper = git_anchor(tmp_path)
    for size in (1, 2):
        keeper.take(checkpoint(size), KEY)
    repository = tmp_path / "kept.git"
    assert git(repository, "log", "--format=%s", "audit/host-1").splitlines() == [
        f"{size} of {KEY.name}" for size in ("2 records", "1 record")
    ]
    assert git(repository, "show", "audit/host-1~1:checkpoint") == checkpoint(1).note.decode().strip()
    assert not (tmp_path / "hooked").exists(), "hooks take no part"


@pytest.mark.parametrize("size", [16_385, 1 << 20])
def test_no_more_of_a_branch_is_read_than_a_checkpoint_has(tmp_path: Path, size: int) -> None:
    keeper, branch = git_anchor(tmp_path), git_branch(tmp_path)
    assert branch.add(branch.read(), b"a" * size, "a")
    for ask in (keeper.latest, lambda: keeper.take(checkpoint(1), KEY)):
        with pytest.raises(MvmnixError, match=r"more than 16384 bytes|wrote more than it may"):
            ask()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("times", "is_kept"), [(1, True), (2, False)])
def test_a_branch_that_moves_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, *, is_kept: bool, packed: bool
) -> None:
    """Two processes commit at once: the slower one begins anew, on top of the other's."""
    keeper, real = git_anchor(tmp_path), GitBranch.add
    sizes = iter(range(1, times + 1))

    def add(self: GitBranch, tip: Tip, content: bytes, message: str) -> bool:
        if size := next(sizes, 0):
            assert real(self, tip, checkpoint(size).note, "the other's")
            if packed:
                git(tmp_path / "kept.git", "pack-refs", "--all")
        return real(self, tip, content, message)

    monkeypatch.setattr(GitBranch, "add", add)
    monkeypatch.setattr(anchors, "_TRIES", 2)
    with nullcontext() if is_kept else pytest.raises(MvmnixError, match="moves all the time"):
        keeper.take(checkpoint(100), KEY)
    monkeypatch.setattr(GitBranch, "add", real)
    assert git(tmp_path / "kept.git", "rev-list", "--count", "audit/host-1") == str(times + is_kept)
    assert keeper.latest() == checkpoint(100 if is_kept else times).note


def test_a_command_gets_it_on_its_standard_input(tmp_path: Path) -> None:
    script = f"cat > {tmp_path}/got"
    keeper = CommandAnchor("post", True, ("/bin/sh", "-c", script), 10)
    keeper.take(checkpoint(2), KEY)
    assert (tmp_path / "got").read_bytes() == checkpoint(2).note
    assert keeper.latest() is None


FAILING: dict[str, Callable[[Path, bool], Anchor]] = {
    "no directory": lambda path, required: FileAnchor("usb", required, str(path / "gone/checkpoint")),
    "no repository": lambda path, required: GitAnchor("branch", required, str(path / "gone.git"), "main", 60),
    "no program": lambda path, required: CommandAnchor("post", required, (str(path / "gone"),), 10),
    "a command that fails": lambda _, required: CommandAnchor("post", required, ("/bin/false",), 10),
    "a command that never ends": lambda _, required: CommandAnchor("post", required, ("/bin/sleep", "600"), 1),
}


@dataclass
class Anchored:
    """A log with anchors, and what was said of them."""

    world: World
    said: list[str] = field(default_factory=list)

    def log(self, *anchors: Anchor) -> AnchoredLog:
        return AnchoredLog(self.world.directory, self.world.signer, anchors, self.said.append)

    def records(self) -> list[Record]:
        return [listed.record for listed in last_records(self.world.directory, self.world.key, last=1000)]


@pytest.fixture
def anchored(world: World) -> Anchored:
    return Anchored(world)


REFUSAL = Record(kind=RecordKind.REFUSAL, time=NOON, reasons=("unsigned",))
END = replace(record(1), kind=RecordKind.END)


def test_records_of_weight_are_handed_over(anchored: Anchored, keeper: Anchor) -> None:
    log = anchored.log(keeper)
    for one in (replace(record(0), kind=RecordKind.ADMISSION), record(1), END):
        entry = log.append(one)
        assert keeper.latest() == entry.checkpoint.note
    after = log.append(REFUSAL)
    assert keeper.latest() != after.checkpoint.note, "whoever is refused can't keep anchors busy"
    assert verify_log(anchored.world.directory, KEY, keeper.latest()).pinned is not None
    assert anchored.said == []


@pytest.mark.parametrize("way", FAILING)
@pytest.mark.parametrize("kind", [RecordKind.ADMISSION, RecordKind.START])
def test_nothing_starts_without_a_required_anchor(
    anchored: Anchored, tmp_path: Path, way: str, kind: RecordKind
) -> None:
    log = anchored.log(FAILING[way](tmp_path, True))
    assert refusal_codes(log.append, replace(record(0), kind=kind)) == (ReasonCode.ANCHOR_UNAVAILABLE,)
    assert anchored.said == [], "the refusal says it"
    assert [one.kind for one in anchored.records()] == [kind, RecordKind.ANCHOR]
    assert anchored.records()[-1].reasons == ("anchor-unavailable",)


def test_an_end_has_happened_anchored_or_not(anchored: Anchored, tmp_path: Path) -> None:
    anchored.log(FAILING["no directory"](tmp_path, True)).append(END)
    assert [one.kind for one in anchored.records()] == [RecordKind.END, RecordKind.ANCHOR]
    assert len(anchored.said) == 1


def test_what_another_anchor_can_not_take_is_said_and_recorded_once(anchored: Anchored, tmp_path: Path) -> None:
    anchors = [FileAnchor(name, False, str(tmp_path / "gone/checkpoint")) for name in ("a", "b")]
    log = anchored.log(*anchors)
    for _ in range(5):
        log.append(record(0))
    assert [one.kind for one in anchored.records()].count(RecordKind.ANCHOR) == 2
    assert len({one.digests["witness"] for one in anchored.records() if one.kind is RecordKind.ANCHOR}) == 2
    assert len(anchored.said) == 2
    assert "the log's anchor a: refused [anchor-unavailable]" in anchored.said[0]


@pytest.mark.parametrize("kind", [RecordKind.ADMISSION, RecordKind.START])
@pytest.mark.parametrize("required", [True, False])
def test_a_log_that_was_put_back_never_passes_for_a_later_one(
    anchored: Anchored, keeper: Anchor, kind: RecordKind, required: bool
) -> None:
    """Refusals and ends make it longer than the anchor's; nothing of it reaches the anchor."""
    keeper = replace(keeper, required=required)  # type: ignore[type-var]
    keeper.take(checkpoint(4), KEY)
    log = anchored.log(keeper)
    for _ in range(4):
        log.append(REFUSAL)
        log.append(END)
        before = len(anchored.records())
        assert refusal_codes(log.append, replace(record(0), kind=kind)) == (ReasonCode.LOG_MISMATCH,)
        assert len(anchored.records()) == before
    assert len(anchored.records()) > 4
    assert keeper.latest() == checkpoint(4).note


# -- holding the log against them


def hold(world: World, *anchors: Anchor) -> list[str]:
    said: list[str] = []
    check_against_all(world.directory, KEY, anchors, said.append)
    return said


def test_what_each_says_of_a_log(world: World, keeper: Anchor, tmp_path: Path) -> None:
    def said(*anchors: Anchor, contradicts: bool = False) -> list[str]:
        found = list(anchored_log.ask_anchors(world.directory, KEY, anchors))
        assert {answer.contradicts for answer in found} == {contradicts}
        return [answer.said for answer in found]

    world.fill(2)
    command = CommandAnchor("post", True, ("/bin/cat",), 10)
    assert said(keeper, command) == ["keeps no checkpoint yet", "takes checkpoints, and gives none back"]
    keeper.take(world.log.append(record(2)).checkpoint, KEY)
    world.fill(1)
    assert said(keeper) == ["has seen 3 of 4 records"]
    (cannot,) = said(FAILING["no directory"](tmp_path, True))
    assert cannot.startswith("can't be asked: ")
    for file in world.path.iterdir():
        file.unlink()
    world.fill(1)
    assert said(keeper, contradicts=True)[0].startswith("can't vouch for the log: it was rolled back: ")


def test_nothing_is_said_twice(anchored: Anchored, tmp_path: Path) -> None:
    anchored.world.fill(1)
    log = anchored.log(FAILING["no directory"](tmp_path, False))
    for _ in range(3):
        log.check_anchors()
    assert len(anchored.said) == 1


def test_a_log_that_went_on_passes(world: World, keeper: Anchor) -> None:
    assert hold(world, keeper) == [], "nobody has seen anything yet"
    keeper.take(world.log.append(record(0)).checkpoint, KEY)
    world.fill(3)
    assert hold(world, keeper, CommandAnchor("post", True, ("/bin/false",), 1)) == []


@pytest.mark.parametrize("required", [True, False])
def test_a_log_older_than_its_anchor_is_refused(world: World, keeper: Anchor, *, required: bool) -> None:
    world.fill(2)
    keeper = replace(keeper, required=required)  # type: ignore[type-var]
    keeper.take(checkpoint(3), KEY)
    with pytest.raises(RefusedError, match="rolled back") as caught:
        hold(world, keeper)
    assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)


@pytest.mark.parametrize("way", ["no directory", "no repository"])
def test_an_anchor_that_can_not_be_asked(world: World, tmp_path: Path, way: str) -> None:
    world.fill(1)
    assert refusal_codes(hold, world, FAILING[way](tmp_path, True)) == (ReasonCode.ANCHOR_UNAVAILABLE,)
    assert len(hold(world, FAILING[way](tmp_path, False))) == 1, "which is said"


#: What mvm wrote while anchors had another name.
FORMER = (
    b'{"digests":{"witness":"'
    + b"5" * 64
    + b'"},"kind":"witness","reasons":["witness-unavailable"],"time":"2026-09-01T12:00:00Z"}'
)


def test_a_record_from_before_the_name_was_changed_is_still_read(world: World) -> None:
    former = Record.parse(FORMER)
    assert former.line == FORMER
    world.log.append(record(0))
    world.log.append(former)
    assert verify_log(world.directory, world.key).checkpoint.size == 2
    (listed,) = last_records(world.directory, world.key, last=1)
    assert (listed.record.kind, listed.record.reasons) == (RecordKind.ANCHOR, ("witness-unavailable",))
