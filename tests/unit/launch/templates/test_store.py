"""Templates that are kept: opened whole and verified, or gone, and a machine boots; what is held is of their file."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.record import TemplateKey, TemplateRecord
from mvmnix.launch.templates.sealed_stream import KEY_BYTES, read_salt
from mvmnix.launch.templates.store import NoTemplateError, Templates
from mvmnix.launch.templates.template import NOTHING_HELD, Held, Template
from mvmnix.system import store
from mvmnix.system.descriptors import reopen
from mvmnix.system.private_dirs import Directory
from tests.descriptors import nothing_left_open
from tests.unit.launch.templates.kept import BOOT, KEY, PIECES, POLICY, STATE, record_of, saved_memory

OTHER_KEY = replace(KEY, vcpus=3)


@dataclass
class HeldHere(Held):
    """Holds templates in this process, as a launcher does for its forks."""

    templates: dict[Digest, Template] = field(default_factory=dict)
    given: int = 0

    @override
    def take(self, key: Digest) -> Template | None:
        held = self.templates.get(key)
        if held is None:
            return None
        return replace(held, memory=os.dup(held.memory), state=reopen(held.state))

    @override
    def give(self, template: Template) -> None:
        self.given += 1
        self.templates[template.record.key] = replace(
            template, memory=os.dup(template.memory), state=os.dup(template.state)
        )

    @override
    def drop(self, key: Digest) -> None:
        if (held := self.templates.pop(key, None)) is not None:
            held.close()

    @override
    def close(self) -> None:
        for held in self.templates.values():
            held.close()
        self.templates.clear()


@dataclass
class Kept:
    """A user's templates, and the directory in which they are."""

    directory: Directory
    key: bytes = bytes(KEY_BYTES)

    def templates(self, policy: Digest = POLICY, held: Held = NOTHING_HELD) -> Templates:
        return Templates(self.directory, lambda: self.key, policy, held)

    def keep(self, key: TemplateKey = KEY, record: TemplateRecord | None = None) -> Path:
        """Keep a template; its file."""
        with saved_memory(key) as memory:
            self.templates().keep(record or record_of(key), STATE, memory)
        return self.path(key)

    def path(self, key: TemplateKey = KEY) -> Path:
        return Path(self.directory.where(f"{key.digest.hex}.template"))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Kept]:
    with Directory.create(str(tmp_path / "templates")) as directory:
        yield Kept(directory)


def cold(templates: Templates, key: TemplateKey = KEY) -> str:
    """Why a machine of this key boots; nothing is left open."""
    with nothing_left_open(), pytest.raises(NoTemplateError) as caught:
        templates.find(key)
    return str(caught.value)


def test_what_is_kept_is_found_whole_and_sealed(here: Kept) -> None:
    here.keep()
    with nothing_left_open(), closing(here.templates().find(KEY)) as found:
        assert found.record == record_of()
        assert tuple(guest_memory.blocks(found.memory)) == PIECES
        assert os.fstat(found.memory).st_size == KEY.memory_mib << 20
        assert os.read(found.state, 1000) == STATE
        assert store.is_sealed(found.memory)
        assert store.is_sealed(found.state)
        assert {os.fstat(fd).st_mode & 0o777 for fd in (found.memory, found.state)} == {0o444}


def test_nothing_of_it_can_be_read_on_the_disk(here: Kept) -> None:
    data = here.keep().read_bytes()
    assert here.path().stat().st_mode & 0o777 == 0o600
    for secret in (STATE, PIECES[0][1][:32], b"hello", KEY.digest.hex.encode()):
        assert secret not in data


def test_each_reads_the_state_from_its_beginning(here: Kept) -> None:
    here.keep()
    held = HeldHere()
    with ExitStack() as stack:
        stack.callback(held.close)
        found = [stack.enter_context(closing(here.templates(held=held).find(KEY))) for _ in range(3)]
        assert [os.read(each.state, 1000) for each in found] == [STATE] * 3


def test_where_none_is_kept_for_a_key_that_of_another_one_stays(here: Kept) -> None:
    here.keep()
    assert cold(here.templates(), OTHER_KEY) == "no template is kept for it"
    assert here.path().exists()


def test_it_is_gone_once_the_policy_is_another_one(here: Kept) -> None:
    here.keep()
    why = cold(here.templates(policy=Digest.of(b"another")))
    assert why == "the trust policy, or what is revoked, has changed since the template was made"
    assert not here.path().exists()
    assert "no template is kept" in cold(here.templates())


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"garbage" * 1000),
        lambda path: os.truncate(path, path.stat().st_size + 1),
    ],
    ids=["truncated", "flipped", "emptied", "garbage", "longer"],
)
def test_a_file_that_is_not_what_was_sealed_is_gone(here: Kept, damage: Callable[[Path], object]) -> None:
    damage(here.keep())
    assert cold(here.templates()).startswith("the template can't be used: ")
    assert not here.path().exists()


def test_a_file_of_another_key_in_its_place(here: Kept) -> None:
    here.keep(OTHER_KEY).rename(here.keep())
    assert cold(here.templates()).startswith("the template can't be used: its chunk 0 is not what was sealed")
    assert not here.path().exists()


def test_an_older_file_that_was_put_back_is_of_its_policy(here: Kept) -> None:
    older = here.keep(record=record_of(policy=Digest.of(b"before"))).rename(here.path().with_suffix(".older"))
    here.keep()
    with closing(here.templates().find(KEY)):
        pass
    older.rename(here.path())
    assert "has changed since the template was made" in cold(here.templates())
    assert not here.path().exists()


def test_a_template_of_another_boot_of_the_host(here: Kept) -> None:
    here.keep(record=record_of(boot="12345678-9abc-def0-1234-56789abcdef1"))
    assert cold(here.templates()) == "the template is of another machine"
    assert not here.path().exists()


def test_a_record_of_another_key_under_its_name(here: Kept) -> None:
    here.keep(record=replace(record_of(OTHER_KEY), key=KEY.digest, boot="f" * 8 + BOOT[8:]))
    assert cold(here.templates()) == "the template is of another machine"


def test_once_the_sealing_key_is_another_one(here: Kept) -> None:
    here.keep()
    here.key = b"\1" * KEY_BYTES
    assert cold(here.templates()).startswith("the template can't be used: its chunk 0")
    assert not here.path().exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"memory": Digest.of(b"another")}, "the memory is not what was kept"),
        ({"state": Digest.of(b"another")}, "the state of its devices is not what was kept"),
        ({"state_bytes": len(STATE) + 1}, "the state of its devices is not what was kept"),
    ],
)
def test_what_was_sealed_is_what_its_record_says(here: Kept, changes: dict[str, Any], why: str) -> None:
    here.keep(record=record_of(**changes))
    assert cold(here.templates()) == f"the template can't be used: {why}"
    assert not here.path().exists()


def test_a_newer_one_takes_the_place_of_an_older_one(here: Kept) -> None:
    here.keep(record=record_of(machine="aaaaaaaaaaaa"))
    here.keep(record=record_of(machine="bbbbbbbbbbbb"))
    assert [kept.record.machine for kept in here.templates().list()] == ["bbbbbbbbbbbb"]
    with closing(here.templates().find(KEY)) as found:
        assert found.record.machine == "bbbbbbbbbbbb"


def test_one_that_cannot_be_kept_leaves_nothing(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    here.keep()
    before = here.path().read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with saved_memory() as memory, nothing_left_open(), pytest.raises(OSError, match="No space"):
        here.templates().keep(record_of(), STATE, memory)
    assert {*os.listdir(here.directory.fd)} == {here.path().name, "lock"}  # noqa: PTH208 - a descriptor
    assert here.path().read_bytes() == before


def test_they_are_listed_the_last_used_one_first(here: Kept) -> None:
    first, second = here.keep(), here.keep(OTHER_KEY)
    os.utime(first, (1000, 1000))
    os.utime(second, (2000, 2000))
    _flip(here.keep(replace(KEY, vcpus=4)))
    here.path(replace(KEY, vcpus=4)).write_bytes(b"garbage")
    templates = here.templates()
    assert [kept.record for kept in templates.list()] == [record_of(OTHER_KEY), record_of()]
    assert [kept.size for kept in templates.list()] == [path.stat().st_size for path in (second, first)]
    templates.find(KEY).close()
    assert [kept.record for kept in templates.list()] == [record_of(), record_of(OTHER_KEY)]


def test_one_is_removed_and_no_other(here: Kept) -> None:
    here.keep()
    here.keep(OTHER_KEY)
    here.templates().remove(KEY.digest)
    here.templates().remove(KEY.digest)
    assert [kept.record.key for kept in here.templates().list()] == [OTHER_KEY.digest]


def test_what_is_of_no_use_is_pruned(here: Kept) -> None:
    """Another boot's, another policy's, what doesn't open; nothing that isn't a template's file."""
    here.keep()
    others = [replace(KEY, vcpus=count) for count in (3, 4, 5)]
    here.keep(others[0], record_of(others[0], boot="f" * 8 + BOOT[8:]))
    here.keep(others[1], record_of(others[1], policy=Digest.of(b"another")))
    here.keep(others[2]).write_bytes(b"garbage")
    foreign = Path(here.directory.where("z" * 64 + ".template"))
    foreign.write_bytes(b"a user's")
    assert {*here.templates().prune(BOOT)} == {other.digest for other in others}
    assert {*os.listdir(here.directory.fd)} == {here.path().name, foreign.name, "lock"}  # noqa: PTH208


def test_the_least_recently_used_ones_make_room(here: Kept) -> None:
    keys = [replace(KEY, vcpus=count) for count in (1, 2, 3)]
    for at, key in enumerate(keys):
        os.utime(here.keep(key), (at, at))
    size = here.path(keys[0]).stat().st_size
    assert here.templates().prune(BOOT, 3 * size) == ()
    assert here.templates().prune(BOOT, 2 * size) == (keys[0].digest,)
    assert here.templates().prune(BOOT, 0) == (keys[2].digest, keys[1].digest)


def test_so_many_are_kept(here: Kept) -> None:
    keys = [replace(KEY, vcpus=count) for count in (1, 2, 3)]
    for at, key in enumerate(keys):
        os.utime(here.keep(key), (at, at))
    assert here.templates().prune(BOOT, count=3) == ()
    assert here.templates().prune(BOOT, count=1) == (keys[1].digest, keys[0].digest)
    assert [kept.record.key for kept in here.templates().list()] == [keys[2].digest]


def test_what_no_machine_could_start_from_is_known(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is where it is only not to be read now."""

    def missed(templates: Templates) -> Digest | None:
        with pytest.raises(NoTemplateError):
            templates.find(KEY)
        return templates.missed

    assert missed(here.templates()) == KEY.digest
    here.keep()
    assert missed(here.templates(policy=Digest.of(b"another"))) == KEY.digest
    _flip(here.keep())
    assert missed(here.templates()) == KEY.digest
    here.keep()
    found = here.templates()
    found.find(KEY).close()
    assert found.missed is None

    def short(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(guest_memory, "sealed_copy", short)
    assert missed(here.templates()) is None


def test_one_that_is_rejected_is_gone_and_not_made_again(here: Kept) -> None:
    here.keep()
    templates = here.templates()
    templates.find(KEY).close()
    newer = record_of(machine="bbbbbbbbbbbb")
    here.keep(record=newer)
    templates.reject(record_of())
    assert [kept.record for kept in templates.list()] == [newer], "a newer one stays"
    templates.reject(newer)
    assert not here.path().exists()
    assert templates.cold_starts(BOOT).obstacles == ("a guest that was restored from one was not ready",)
    assert [templates.cold_starts(BOOT).note(KEY.digest) for _ in range(3)] == [False] * 3
    here.keep()
    assert templates.cold_starts(BOOT).obstacles == (), "who makes one by hand begins anew"


def test_counts_of_another_boot_are_pruned(here: Kept) -> None:
    templates = here.templates()
    for boot in (BOOT, "f" * 8 + BOOT[8:]):
        templates.cold_starts(boot).note(Digest.of(boot.encode()))
    templates.prune(BOOT)
    assert [name for name in os.listdir(here.directory.fd) if name.endswith(".cold")] == [  # noqa: PTH208
        f"{Digest.of(BOOT.encode()).hex}.cold"
    ]


def test_what_a_killed_writer_left_is_pruned(here: Kept) -> None:
    left = Path(here.directory.where(f".{KEY.digest.hex}.{'0' * 16}.tmp"))
    left.write_bytes(b"half a template")
    left.chmod(0o600)
    here.templates().prune(BOOT)
    assert not left.exists()


def test_what_is_held_is_not_opened_again(here: Kept) -> None:
    here.keep()
    held = HeldHere()
    templates = here.templates(held=held)
    with closing(templates.find(KEY)) as first, closing(templates.find(KEY)) as second:
        assert os.path.samestat(os.fstat(first.memory), os.fstat(second.memory)), "they share its pages"
    assert held.given == 1
    templates.close()
    assert held.templates == {}


@pytest.fixture
def held(here: Kept) -> Iterator[HeldHere]:
    """Holds a template that is kept."""
    here.keep(record=record_of(machine="aaaaaaaaaaaa"))
    found = HeldHere()
    with closing(found):
        here.templates(held=found).find(KEY).close()
        yield found


def test_a_held_one_of_which_there_is_no_file_any_more_is_not_used(here: Kept, held: HeldHere) -> None:
    here.templates().remove(KEY.digest)
    with pytest.raises(NoTemplateError, match="no template is kept"):
        here.templates(held=held).find(KEY)
    assert held.templates == {}, "it is let go of"


def test_a_held_one_of_an_earlier_file_is_not_used(here: Kept, held: HeldHere) -> None:
    here.keep(record=record_of(machine="bbbbbbbbbbbb"))
    with nothing_left_open(), closing(here.templates().find(KEY)) as found:
        assert found.record.machine == "bbbbbbbbbbbb"
    with closing(here.templates(held=held).find(KEY)) as found:
        assert found.record.machine == "bbbbbbbbbbbb"
    assert held.given == 2


def test_a_held_one_is_not_used_for_another_file_that_has_its_inode(here: Kept, held: HeldHere) -> None:
    """A file system gives the number of a file that was removed to the next one."""
    first = here.path().with_suffix(".first")
    here.path().rename(first)
    first.write_bytes(here.keep(record=record_of(machine="bbbbbbbbbbbb")).read_bytes())
    first.rename(here.path())
    with closing(here.templates(held=held).find(KEY)) as found:
        assert found.record.machine == "bbbbbbbbbbbb"


def test_a_held_one_of_another_policy_is_not_used(here: Kept, held: HeldHere) -> None:
    with pytest.raises(NoTemplateError, match="has changed"):
        here.templates(Digest.of(b"another"), held).find(KEY)
    assert not here.path().exists()
    assert held.templates == {}, "it is let go of"


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ],
    ids=["symbolic link", "directory", "fifo"],
)
def test_what_is_no_file_is_no_refusal_but_a_cold_start(here: Kept, put: Callable[[Path], object]) -> None:
    here.keep(OTHER_KEY)
    put(here.path())
    assert cold(here.templates()).startswith("the template can't be opened: ")
    assert [kept.record.key for kept in here.templates().list()] == [OTHER_KEY.digest]


def test_a_file_that_cannot_be_read_now_stays(here: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors or memory may be short in this process alone."""
    here.keep()

    def short(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(guest_memory, "sealed_copy", short)
        assert "Too many open files" in cold(here.templates())
    here.templates().find(KEY).close()


def test_a_newer_file_of_the_name_is_not_removed_for_the_one_that_was_judged(here: Kept) -> None:
    here.keep()
    with here.path().open("rb") as file:
        salt = read_salt(file)
    here.keep()
    here.templates().discard(KEY.digest, salt)
    assert here.path().exists()
    with here.path().open("rb") as file:
        here.templates().discard(KEY.digest, read_salt(file))
    assert not here.path().exists()


def test_a_sealing_key_that_is_refused_is_a_cold_start_and_told_who_asks(here: Kept) -> None:
    here.keep()

    def refused() -> bytes:
        raise refuse(ReasonCode.KEY_PERMISSIONS, "sealing.key", "others can read it", "remove it")

    templates = Templates(here.directory, refused, POLICY, NOTHING_HELD)
    with pytest.raises(RefusedError, match="others can read it"):
        templates.list()
    with pytest.raises(RefusedError, match="others can read it"):
        templates.prune(BOOT)
    assert here.path().exists()
    assert "others can read it" in cold(templates)
