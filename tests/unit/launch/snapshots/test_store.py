"""Snapshots that are kept: there whole or not at all, and opened as what was sealed or refused."""

import errno
import os
import resource
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, UsageError
from mvmnix.launch.snapshots.statement import SnapshotClaim
from mvmnix.launch.snapshots.store import BUNDLE_FILE, KEY_FILE, PLAN_FILE
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.guest_memory import BLOCK
from mvmnix.launch.templates.sealed_stream import KEY_BYTES
from mvmnix.plan.secret_reference import Secret, SecretTarget
from mvmnix.system.private_dirs import Directory
from tests.descriptors import nothing_left_open
from tests.unit.launch.snapshots.kept import (
    CHANGES,
    ID,
    MEMORY_MIB,
    OTHER_ID,
    PIECES,
    PLAN,
    SIZE,
    STATE,
    Kept,
    claim_of,
    saved_memory,
)

SEALED = "memory.sealed"
FILES = (SEALED, KEY_FILE, BUNDLE_FILE, PLAN_FILE)


def restored(here: Kept, claim: SnapshotClaim) -> int:
    """The guest's memory, as a machine would get it."""
    with here.snapshots.open(claim.id) as kept:
        guest = here.snapshots.unseal(kept, claim, here.directory)
    assert (guest.state, guest.disk) == (STATE, None)
    return guest.memory


def refused(here: Kept, claim: SnapshotClaim) -> str:
    """Why a snapshot isn't restored, which a check says, too; nothing is left open."""
    with nothing_left_open(), pytest.raises(RefusedError) as caught:
        restored(here, claim)
    assert caught.value.codes == (ReasonCode.SNAPSHOT_DAMAGED,)
    with pytest.raises(RefusedError) as checked, here.snapshots.open(claim.id) as kept:
        here.snapshots.checked_key(kept, claim)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


def test_a_version_is_of_one_value_under_one_name_in_one_plan_on_one_host(here: Kept) -> None:
    def version(plan: str = "1", name: str = "a", value: bytes = b"b") -> str:
        (found,) = here.snapshots.secret_versions(Digest(plan * 64), [Secret(name, SecretTarget.FILE, value)])
        return found

    assert version() == version()
    found = {version(), version(plan="2"), version(name="c"), version(value=b"c"), version(name="ab", value=b"")}
    here.key = bytes(range(KEY_BYTES))
    assert len({*found, version()}) == 6


def test_what_is_kept_is_restored_whole(here: Kept) -> None:
    claim = here.keep()
    with nothing_left_open():
        memory = restored(here, claim)
        assert tuple(guest_memory.blocks(memory)) == PIECES
        assert os.fstat(memory).st_size == MEMORY_MIB << 20
        assert os.fstat(memory).st_mode & 0o777 == 0o666
        assert not os.get_inheritable(memory)
        os.close(memory)
    with here.snapshots.open(ID) as kept:
        here.snapshots.checked_key(kept, claim)
        assert kept.plan == PLAN


def test_nothing_of_it_can_be_read_on_the_disk(here: Kept) -> None:
    here.keep()
    assert {path.name for path in here.path().iterdir()} == set(FILES)
    assert here.path().stat().st_mode & 0o777 == 0o700
    for path in here.path().iterdir():
        data = path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        assert not any(secret in data for secret in (STATE, PIECES[0][1][:32], b"a secret" * 4))


def test_each_has_a_key_of_its_own(here: Kept) -> None:
    first, second = here.keep(), here.keep(OTHER_ID)
    assert first.sealed != second.sealed
    assert first.key != second.key


def test_its_digests_are_those_of_its_files(here: Kept) -> None:
    claim = here.keep()
    sealed, key = ((here.path() / name).read_bytes() for name in (SEALED, KEY_FILE))
    assert (claim.sealed, claim.sealed_bytes, claim.key) == (Digest.of(sealed), len(sealed), Digest.of(key))


def test_it_is_sealed_a_step_at_a_time(here: Kept) -> None:
    pieces = tuple((number * BLOCK, bytes([number + 1]) * BLOCK) for number in range(80))
    with saved_memory(pieces) as memory, here.snapshots.begin(ID) as writer:
        steps = list(writer.seal(STATE, memory, SIZE, None))
        assert steps == sorted(steps)
        assert len(steps) > 5
        assert all(after - before < 2 << 20 for before, after in pairwise(steps))
        assert steps[-1] == writer.sealed[1]


def test_there_is_nothing_of_it_before_it_is_kept(here: Kept) -> None:
    with nothing_left_open(), saved_memory() as memory, here.snapshots.begin(ID) as writer:
        for wanted in (lambda: writer.sealed, lambda: writer.key, lambda: writer.keep(b"", b"")):
            with pytest.raises(ValueError, match="not sealed yet"):
                wanted()
        for _ in writer.seal(STATE, memory, SIZE, None):
            assert here.snapshots.list() == ()
            assert here.snapshots.sweep() == (), "a writer that lives is left alone"
        with pytest.raises(ValueError, match="sealed once"):
            next(writer.seal(STATE, memory, SIZE, None))
    assert here.left() == []


@pytest.mark.parametrize("state", [b"", bytes((16 << 20) + 1)])
def test_a_state_that_is_none(here: Kept, state: bytes) -> None:
    with saved_memory() as memory, here.snapshots.begin(ID) as writer, pytest.raises(ValueError, match="state"):
        next(writer.seal(state, memory, SIZE, None))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [SEALED, KEY_FILE])
def test_a_file_that_was_changed(here: Kept, name: str, change: str) -> None:
    claim, path = here.keep(), here.path() / name
    path.write_bytes(CHANGES[change](path.read_bytes()))
    assert ("key" in refused(here, claim)) == (name == KEY_FILE)
    os.close(restored(here, here.keep(OTHER_ID)))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [SEALED, KEY_FILE])
def test_a_file_that_was_changed_and_named_by_a_statement(here: Kept, name: str, change: str) -> None:
    """Who has the key that signs, and not the one that seals, makes no memory that is restored."""
    claim, path = here.keep(), here.path() / name
    data = CHANGES[change](path.read_bytes())
    path.write_bytes(data)
    digest = Digest.of(data)
    changes = {"sealed": digest, "sealed_bytes": len(data)} if name == SEALED else {"key": digest}
    refused(here, claim_of(**{**_seals(claim), **changes}))


def _seals(claim: SnapshotClaim) -> dict[str, Any]:
    return {name: getattr(claim, name) for name in ("sealed", "sealed_bytes", "key", "state_bytes")}


@pytest.mark.parametrize(
    "names",
    [{SEALED}, {KEY_FILE}, {SEALED, KEY_FILE}, set(FILES) - {KEY_FILE}, set(FILES)],
    ids=lambda it: "-".join(sorted(it)),
)
def test_files_that_were_swapped_between_two(here: Kept, names: set[str]) -> None:
    first, second = here.keep(), here.keep(OTHER_ID)
    for name in names:
        one, other = here.path() / name, here.path(OTHER_ID) / name
        one.rename(here.path() / "x")
        other.rename(one)
        (here.path() / "x").rename(other)
    for claim in (first, second):
        refused(here, claim)
        refused(here, claim_of(**_seals(second if claim is first else first), id=claim.id))


def test_a_directory_that_got_the_name_of_another(here: Kept) -> None:
    claim = here.keep()
    here.path().rename(here.path(OTHER_ID))
    with here.snapshots.open(OTHER_ID) as kept, pytest.raises(RefusedError, match="about the snapshot"):
        here.snapshots.unseal(kept, claim, here.directory)
    refused(here, claim_of(**_seals(claim), id=OTHER_ID))


@pytest.mark.parametrize(
    "changes",
    [
        {"state_bytes": len(STATE) - 1},
        {"state_bytes": len(STATE) + 1},
        {"memory_mib": MEMORY_MIB - 1},
        {"sealed": Digest.of(b"another")},
        {"sealed_bytes": 1},
        {"key": Digest.of(b"another")},
    ],
    ids=str,
)
def test_a_statement_of_something_else(here: Kept, changes: dict[str, Any]) -> None:
    claim = here.keep()
    if "memory_mib" in changes and changes["memory_mib"] > MEMORY_MIB:  # the same blocks, in a larger memory
        os.close(restored(here, claim_of(**{**_seals(claim), **changes})))
        return
    refused(here, claim_of(**{**_seals(claim), **changes}))


def test_another_host_opens_nothing(here: Kept) -> None:
    claim = here.keep()
    here.key = b"\1" * KEY_BYTES
    assert "its key doesn't open" in refused(here, claim)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there(here: Kept, name: str) -> None:
    claim = here.keep()
    (here.path() / name).unlink()
    assert f"it lacks its {name}" in refused(here, claim)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none(here: Kept, name: str) -> None:
    here.keep()
    (here.path() / name).unlink()
    os.mkfifo(here.path() / name)
    with nothing_left_open(), pytest.raises(RefusedError, match="not a regular file"):
        here.snapshots.open(ID)


def test_a_key_of_any_size(here: Kept) -> None:
    claim = here.keep()
    (here.path() / KEY_FILE).write_bytes(bytes(2000))
    assert "larger than" in refused(here, claim)


@pytest.mark.parametrize("name", [OTHER_ID, "", "..", "../0123456789ab", "lock", ID.upper(), f"{ID}\0"])
def test_one_that_is_not_there(here: Kept, name: str) -> None:
    here.keep()
    for given in (here.snapshots.open, here.snapshots.remove):
        with nothing_left_open(), pytest.raises(UsageError, match="there is no snapshot"):
            given(name)
    if name != OTHER_ID:
        with pytest.raises(ValueError, match="not the id"):
            here.snapshots.begin(name)


def test_a_list(here: Kept) -> None:
    sizes = {claim.id: claim.sealed_bytes for claim in (here.keep(OTHER_ID), here.keep())}
    (here.path() / BUNDLE_FILE).unlink()
    first, second = here.snapshots.list()
    assert (first.id, first.bundle, second.id) == (ID, b"", OTHER_ID)
    assert second.bundle.startswith(b"{")
    assert {each.id: each.size for each in (first, second)} == sizes


def test_no_other_one_takes_its_place(here: Kept) -> None:
    claim = here.keep()
    with pytest.raises(FileExistsError):
        here.keep()
    assert here.left() == [ID]
    os.close(restored(here, claim))


def test_its_key_is_removed_first(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = list[str]()

    def noting(method: Callable[[Directory, str], None]) -> Callable[[Directory, str], None]:
        def noted(it: Directory, name: str) -> None:
            removed.append(name)
            method(it, name)

        return noted

    for each in ("remove", "remove_tree"):
        monkeypatch.setattr(Directory, each, noting(getattr(Directory, each)))
    here.keep()
    with nothing_left_open():
        here.snapshots.remove(ID)
        with pytest.raises(UsageError):
            here.snapshots.remove(ID)
    assert removed[0] == KEY_FILE
    assert removed[1].startswith(f".{ID}.")
    assert here.left() == []


def test_what_is_no_snapshot_is_not_listed(here: Kept) -> None:
    here.keep()
    (here.path("a" * 12)).write_bytes(b"")
    (here.path("b" * 12)).symlink_to("/etc")
    here.keep(OTHER_ID)
    (here.path(OTHER_ID) / BUNDLE_FILE).unlink()
    (here.path(OTHER_ID) / BUNDLE_FILE).mkdir()
    assert [it.id for it in here.snapshots.list()] == [ID]


def test_who_has_opened_it_keeps_its_file(here: Kept) -> None:
    claim = here.keep()
    with here.snapshots.open(ID) as kept:
        here.snapshots.remove(ID)
        os.close(here.snapshots.unseal(kept, claim, here.directory).memory)


@contextmanager
def killed(moment: Callable[[], object]) -> Iterator[None]:
    """A process that does this, and is killed if it gets to its end."""
    child = os.fork()
    if not child:
        try:
            moment()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    yield


def sealing(here: Kept, steps: int) -> None:
    """Begin a snapshot, and go so many steps."""
    with saved_memory() as memory:
        writer = here.snapshots.begin(ID)
        for _, _ in zip(range(steps), writer.seal(STATE, memory, SIZE, None), strict=False):
            pass
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("steps", [0, 1, 2, 100])
def test_a_writer_that_was_killed(here: Kept, steps: int) -> None:
    with killed(lambda: sealing(here, steps)):
        assert len(here.left()) == 1
        assert here.snapshots.list() == ()
        assert here.snapshots.sweep() == (ID,)
        assert here.left() == []
    os.close(restored(here, here.keep()))


@pytest.mark.parametrize("name", ["rename", "sync"])
def test_a_writer_that_was_killed_while_it_kept_it(here: Kept, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whole or not at all: a process that died at the last moment has kept it."""

    def killing(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        monkeypatch.setattr(Directory, name, killing)
        here.keep()

    with killed(dying):
        assert here.snapshots.list() == ()
        assert here.snapshots.sweep() == (ID,)
        assert here.left() == []


def test_a_removal_that_was_killed(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rename", "remove_tree"):
        here.keep()

        def dying(name: str = name) -> None:
            monkeypatch.setattr(Directory, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            here.snapshots.remove(ID)

        with killed(dying):
            assert here.snapshots.list() == ()
            assert here.snapshots.sweep() == (ID,)
            assert here.left() == []


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file of this process may be larger (setrlimit(2), EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 100, 1 << 16, (1 << 20) + 100])
def test_a_disk_that_is_full(here: Kept, limit: int) -> None:
    pieces = tuple((number * BLOCK, bytes([number + 1]) * BLOCK) for number in range(40))
    with nothing_left_open(), saved_memory(pieces) as memory, here.snapshots.begin(ID) as writer:
        with room_for(limit), pytest.raises(OSError, match=r"File too large"):
            deque(writer.seal(STATE, memory, SIZE, None), maxlen=0)
        with pytest.raises(ValueError, match="not sealed yet"):
            writer.keep(b"", b"")
    assert here.left() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_disk_that_fails_when_it_gets_its_name(here: Kept, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    rename = Directory.rename

    def failing(it: Directory, old: str, new: str) -> None:
        if moment == "after":
            rename(it, old, new)
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "rename", failing)
        with nothing_left_open(), pytest.raises(OSError, match="the disk fails"):
            here.keep()
    assert here.left() == []


def test_a_sweep_leaves_what_is_whole(here: Kept) -> None:
    claim = here.keep()
    (here.path().parent / "of-another-kind").mkdir()
    assert here.snapshots.sweep() == ()
    os.close(restored(here, claim))
