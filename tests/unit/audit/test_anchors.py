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
from mvmnix.audit.merkle import CompactRange
from mvmnix.audit.note import Checkpoint
from mvmnix.audit.reading import last_records
from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.verify import verify_log
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from tests.unit.audit.world import NOON, World, new_signer, record


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


KEEPERS: dict[str, Callable[[Path], Anchor]] = {"file": file_anchor, "git": git_anchor}


@pytest.fixture(params=KEEPERS)
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Anchor:
    return KEEPERS[request.param](tmp_path)


def checkpoint(size: int, seed: int = 1, first: int = 0) -> Checkpoint:
    tree = CompactRange().extend(record(number).line for number in range(first, first + size))
    return Checkpoint.sign(size, tree.root(), new_signer(seed))


KEY = new_signer().key


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


@pytest.mark.parametrize("newer", [True, False], ids=["as it is", "a git without GIT_NO_LAZY_FETCH"])
@pytest.mark.parametrize("url", ["ssh://elsewhere/x", "{run}", "ext::touch {run}", "elsewhere::x"])
def test_nothing_of_a_repositorys_configuration_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, newer: bool
) -> None:
    """Who may write to it says there where missing objects come from, and by which program (partial clone)."""
    if not newer:
        monkeypatch.delitem(anchors._GIT_ENVIRONMENT, "GIT_NO_LAZY_FETCH")
    keeper, run = git_anchor(tmp_path), tmp_path / "run"
    repository = tmp_path / "kept.git"
    (repository / "config").write_text(
        f"[core]\nrepositoryformatversion = 1\nbare = true\nsshCommand = touch {run};\nfsmonitor = touch {run};\n"
        f'[extensions]\npartialClone = origin\n[protocol]\nallow = always\n[protocol "ext"]\nallow = always\n'
        f'[remote "origin"]\nurl = {url.format(run=run)}\npromisor = true\nuploadpack = touch {run};\n'
    )
    (repository / "refs/heads/audit").mkdir()
    (repository / "refs/heads/audit/host-1").write_text("a" * 40 + "\n")
    with pytest.raises(MvmnixError):
        keeper.latest()
    with pytest.raises(MvmnixError):
        keeper.take(checkpoint(1), KEY)
    assert not run.exists()


@pytest.mark.parametrize("which", ["nothing", "commit", "tree", "blob"])
def test_what_a_branch_holds_is_not_read_before_its_size_is_known(tmp_path: Path, which: str) -> None:
    keeper, repository = git_anchor(tmp_path), tmp_path / "kept.git"

    def made(*words: str, given: str = "") -> str:
        said = subprocess.run(
            ["git", "-C", str(repository), *words], input=given.encode(), capture_output=True, check=True
        )
        return said.stdout.decode().strip()

    long = "a" * 16_385
    blob = made("hash-object", "-w", "--stdin", given=long if which == "blob" else long[1:])
    names = ("checkpoint", *(f"name-{number:04}" for number in range(600 if which == "tree" else 0)))
    tree = made("mktree", given="".join(f"100644 blob {blob}\t{name}\n" for name in names))
    who = ("-c", "user.name=a", "-c", "user.email=b")
    commit = made(*who, "commit-tree", tree, given=long if which == "commit" else "a")
    made("update-ref", "refs/heads/audit/host-1", commit)
    if which == "nothing":
        assert keeper.latest() == long[1:].encode()
        return
    for ask in (keeper.latest, lambda: keeper.take(checkpoint(1), KEY)):
        with pytest.raises(MvmnixError, match=r"keeps no checkpoint, but [0-9]+ bytes"):
            ask()


def test_a_branch_that_moves_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes commit at once: the slower one begins anew, on top of the other's."""
    keeper = git_anchor(tmp_path)
    real = GitAnchor._git
    moved: list[bool] = []

    def moving(self: GitAnchor, *words: str, input_: bytes = b"") -> str:
        if words[0] == "update-ref" and not moved:
            moved.append(True)
            keeper.take(checkpoint(1), KEY)
        return real(self, *words, input_=input_)

    monkeypatch.setattr(GitAnchor, "_git", moving)
    keeper.take(checkpoint(2), KEY)
    assert git(tmp_path / "kept.git", "rev-list", "--count", "audit/host-1") == "2"
    assert keeper.latest() == checkpoint(2).note


@pytest.mark.parametrize(("times", "is_kept"), [(7, True), (8, False)])
def test_a_branch_that_moves_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, *, is_kept: bool
) -> None:
    keeper, real = git_anchor(tmp_path), GitAnchor._git
    sizes = iter(range(1, times + 1))

    def moving(self: GitAnchor, *words: str, input_: bytes = b"") -> str:
        if words[0] == "update-ref" and (size := next(sizes, 0)):
            monkeypatch.setattr(GitAnchor, "_git", real)
            keeper.take(checkpoint(size), KEY)
            monkeypatch.setattr(GitAnchor, "_git", moving)
        return real(self, *words, input_=input_)

    monkeypatch.setattr(GitAnchor, "_git", moving)
    with nullcontext() if is_kept else pytest.raises(MvmnixError, match="moves all the time"):
        keeper.take(checkpoint(100), KEY)
    assert keeper.latest() == checkpoint(100 if is_kept else times).note


def test_a_branch_that_can_not_be_moved(tmp_path: Path) -> None:
    """As git's own lock file is there, of a git that was killed: nothing is tried again."""
    keeper = git_anchor(tmp_path)
    lock = tmp_path / "kept.git/refs/heads/audit/host-1.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(MvmnixError, match=r"host-1\.lock"):
        keeper.take(checkpoint(1), KEY)


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
    with pytest.raises(RefusedError) as caught:
        log.append(replace(record(0), kind=kind))
    assert caught.value.codes == (ReasonCode.ANCHOR_UNAVAILABLE,)
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
        with pytest.raises(RefusedError) as caught:
            log.append(replace(record(0), kind=kind))
        assert caught.value.codes == (ReasonCode.LOG_MISMATCH,)
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
    with pytest.raises(RefusedError) as caught:
        hold(world, FAILING[way](tmp_path, True))
    assert caught.value.codes == (ReasonCode.ANCHOR_UNAVAILABLE,)
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
