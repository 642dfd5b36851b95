"""Entry records of a guest: of an honest one as they are, of one that was taken over refused, in bounded memory."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.file_entries import MOST_ENTRIES, FileEntry, FileEntryError, FileEntryReader, FileKind
from mvmnix.launch.agent.operations import FileOperation
from mvmnix.launch.agent.requests import FilesRequest
from mvmnix.launch.copy.records import LONGEST_NAME
from tests.unit.launch.channel_house import IDLE, Collect, talk, workload
from tests.unit.launch.fake_files import end_record, record

#: Numbers of the kinds, as docs/reference/channel.md has them.
FIFO, CHARACTER, DIRECTORY, BLOCK, FILE, LINK, SOCKET = 1, 2, 4, 6, 8, 10, 12


def read(data: bytes, portion: int = 1 << 20) -> FileEntryReader:
    reader = FileEntryReader()
    for at in range(0, len(data), portion):
        reader.write(data[at : at + portion])
    return reader


def listing(data: bytes) -> tuple[FileEntry, ...]:
    return read(data).listing()


def status(data: bytes) -> FileEntry:
    return read(data).status()


def test_every_kind() -> None:
    kinds = (FIFO, CHARACTER, DIRECTORY, BLOCK, FILE, LINK, SOCKET)
    data = b"".join(record(kind, bytes([64 + kind]), mode=0o4755, size=kind) for kind in kinds) + end_record(7)
    entries = listing(data)
    assert [(it.kind, it.mode, it.size, it.uid, it.gid) for it in entries] == [
        (FileKind.FIFO, 0o4755, FIFO, 1, 2),
        (FileKind.CHARACTER_DEVICE, 0o4755, CHARACTER, 1, 2),
        (FileKind.DIRECTORY, 0o4755, DIRECTORY, 1, 2),
        (FileKind.BLOCK_DEVICE, 0o4755, BLOCK, 1, 2),
        (FileKind.FILE, 0o4755, FILE, 1, 2),
        (FileKind.LINK, 0o4755, LINK, 1, 2),
        (FileKind.SOCKET, 0o4755, SOCKET, 1, 2),
    ]


@pytest.mark.parametrize("mtime_ns", [-(2**63), -1, 0, 2**63 - 1])
def test_a_status(mtime_ns: int) -> None:
    data = record(FILE, mode=0o7777, size=2**63 - 1, mtime_ns=mtime_ns) + end_record(1)
    assert status(data) == FileEntry("", FileKind.FILE, 0o7777, 2**63 - 1, mtime_ns, 1, 2)


def test_an_empty_directory() -> None:
    assert listing(end_record(0)) == ()


def test_the_longest_name() -> None:
    name = b"x" * LONGEST_NAME
    assert [it.name for it in listing(record(FILE, name) + end_record(1))] == [name.decode()]


@pytest.mark.parametrize(
    ("name", "mode", "size"), [("a/b", 0, 0), ("a", -1, 0), ("a", 0o10000, 0), ("a", 0, -1), ("a", 0, 2**63)]
)
def test_an_entry_that_can_not_be(name: str, mode: int, size: int) -> None:
    with pytest.raises(ValueError, match="not a file's"):
        FileEntry(name, FileKind.FILE, mode, size, 0, 1, 2)


names = st.binary(min_size=1, max_size=LONGEST_NAME).filter(
    lambda it: it not in {b".", b".."} and b"/" not in it and b"\0" not in it
)


@given(st.sets(names, max_size=20), st.integers(1, 100))
def test_any_names_in_any_portions(found: set[bytes], portion: int) -> None:
    data = b"".join(record(FILE, name) for name in sorted(found)) + end_record(len(found))
    assert [os.fsencode(it.name) for it in read(data, portion).listing()] == sorted(found)


@given(st.binary(max_size=400))
def test_noise_is_refused_or_read(noise: bytes) -> None:
    try:
        entries = listing(noise)
    except FileEntryError:
        return
    assert noise == end_record(len(entries))


ONE = record(FILE, b"a")
HOSTILE = {
    "ends too early": b"",
    "too early": ONE + end_record(1)[:-1],
    "it ends": ONE,
    "something follows its end": end_record(0) + b"x",
    "follows its end": end_record(0) * 2,
    "an end of 2 entries, where 1 came": ONE + end_record(2),
    "an end of 0 entries, where 1": ONE + end_record(0),
    "or with more fields": record(0, size=0),  # with a uid
    "an end of 0 entries, where 0 came, or": record(0, b"name"),
    "a record of kind 3": record(3, b"a") + end_record(1),
    "a record of kind 255": record(255, b"a") + end_record(1),
    "kind 8, 1": record(FILE, b"a", zero=1) + end_record(1),
    "a name of 256 bytes": record(FILE, b"x" * 256) + end_record(1),
    "a name of 4294967295 bytes": record(FILE)[:4] + b"\xff" * 4 + record(FILE)[8:],
    "'a/b'": record(FILE, b"a/b") + end_record(1),
    "'/'": record(FILE, b"/") + end_record(1),
    "not a file's name: '.'": record(FILE, b".") + end_record(1),
    "'..'": record(DIRECTORY, b"..") + end_record(1),
    r"'a\\x00b'": record(FILE, b"a\0b") + end_record(1),
    "mode and size: 0o10000": record(FILE, b"a", mode=0o10000) + end_record(1),
    "mode and size: 0o0, 9223372036854775808": record(FILE, b"a", size=2**63) + end_record(1),
    "the name b'a' behind b'a'": ONE * 2 + end_record(2),
    "the name b'a' behind b'b'": record(FILE, b"b") + ONE + end_record(2),
    r"the name b'\\xc3\\xa9' behind b'\\xff'": record(FILE, b"\xff") + record(FILE, "é".encode()) + end_record(2),
    "the name b'' behind": ONE + record(FILE) + end_record(2),
    "a listing with a record without a name": record(FILE) + end_record(1),
    "listing with a record without": record(FILE) + ONE + end_record(2),
}


@pytest.mark.parametrize(("why", "data"), HOSTILE.items(), ids=HOSTILE.keys())
def test_a_listing_that_can_not_be(why: str, data: bytes) -> None:
    with pytest.raises(FileEntryError, match=f"the guest broke the protocol of file operations: .*{why}"):
        listing(data)


def test_a_status_that_is_cut_off() -> None:
    with pytest.raises(FileEntryError, match="it ends too early"):
        status(record(FILE))


@pytest.mark.parametrize("data", [end_record(0), ONE + end_record(1), record(FILE) + ONE + end_record(2)])
def test_a_status_that_can_not_be(data: bytes) -> None:
    with pytest.raises(FileEntryError, match="not one record without a name"):
        status(data)


def test_a_directory_has_so_many_entries_and_no_more() -> None:
    data = b"".join(record(FILE, b"%05d" % number) for number in range(MOST_ENTRIES))
    assert len(listing(data + end_record(MOST_ENTRIES))) == MOST_ENTRIES
    with pytest.raises(FileEntryError, match="more than 65536 entries"):
        listing(data + record(FILE, b"x") + end_record(MOST_ENTRIES + 1))


def test_a_flood_is_not_kept() -> None:
    """What comes behind the bound is refused as it comes, in whatever portions."""
    reader, number = FileEntryReader(), 0
    with pytest.raises(FileEntryError, match="more than 65536 entries"):
        while True:
            reader.write(b"".join(record(FILE, b"%09d" % it) for it in range(number, number + 1000)))
            number += 1000
            assert len(reader._buffer) < 1000
    assert number == MOST_ENTRIES // 1000 * 1000


def test_a_name_shows_no_controls_of_a_terminal() -> None:
    with pytest.raises(FileEntryError) as caught:
        listing(record(FILE, b"\x1b[2J/") + end_record(1))
    assert "\x1b" not in str(caught.value)


class Guest:
    """The fake guest's files, by the channel."""

    def __init__(self, channel: Channel, root: Path) -> None:
        self._channel, self.root = channel, root

    def __call__(
        self, operation: FileOperation, *words: str, recursive: bool = False, parents: bool = False
    ) -> tuple[int, bytes]:
        out = Collect()
        request = FilesRequest(workload(*words), operation=operation, recursive=recursive, parents=parents)
        ended = self._channel.exec(request, stdout=out, stderr=Collect(), idle=IDLE)
        return ended.exit_code, out.data

    def names(self, path: str) -> list[str]:
        code, out = self(FileOperation.LIST, path)
        assert code == 0
        return [it.name for it in listing(out)]


@pytest.fixture
def guest() -> Iterator[Guest]:
    with talk() as (channel, fake, _):
        yield Guest(channel, fake.files.root)


def test_the_fake_guest_does_what_an_agent_does(guest: Guest) -> None:
    assert guest(FileOperation.MKDIR, "/d/e", parents=True) == (0, b"")
    assert guest(FileOperation.MKDIR, "/d/e", parents=True) == (0, b"")
    (guest.root / os.fsdecode(b"d/\xff\n")).write_bytes(b"123")
    (guest.root / "d/link").symlink_to("/etc/passwd")
    assert guest.names("/d") == ["e", "link", "\udcff\n"]
    code, out = guest(FileOperation.STAT, "d/\udcff\n")
    assert (code, status(out).kind, status(out).size) == (0, FileKind.FILE, 3)
    assert status(guest(FileOperation.STAT, "/d/link")[1]).kind is FileKind.LINK
    assert guest(FileOperation.RENAME, "/d/e", "/f") == (0, b"")
    assert guest(FileOperation.REMOVE, "/f") == (0, b"")
    assert guest(FileOperation.REMOVE, "/d/link") == (0, b"")
    assert guest(FileOperation.REMOVE, "/d", recursive=True) == (0, b"")
    assert guest.names("/") == []


FAILURES: dict[str, tuple[Callable[[Guest], tuple[int, bytes]], int]] = {
    "nothing to list": (lambda guest: guest(FileOperation.LIST, "/nosuch"), errno.ENOENT),
    "a file to list": (lambda guest: guest(FileOperation.LIST, "/file"), errno.ENOTDIR),
    "nothing to describe": (lambda guest: guest(FileOperation.STAT, "/nosuch"), errno.ENOENT),
    "nothing to remove": (lambda guest: guest(FileOperation.REMOVE, "/nosuch", recursive=True), errno.ENOENT),
    "a full directory": (lambda guest: guest(FileOperation.REMOVE, "/full"), errno.ENOTEMPTY),
    "nothing to rename": (lambda guest: guest(FileOperation.RENAME, "/nosuch", "/x"), errno.ENOENT),
    "a file over a directory": (lambda guest: guest(FileOperation.RENAME, "/file", "/full"), errno.EISDIR),
    "one that is there": (lambda guest: guest(FileOperation.MKDIR, "/full"), errno.EEXIST),
    "a file in the way": (lambda guest: guest(FileOperation.MKDIR, "/file", parents=True), errno.EEXIST),
    "without its parent": (lambda guest: guest(FileOperation.MKDIR, "/x/y"), errno.ENOENT),
}


@pytest.mark.parametrize(("ask", "number"), FAILURES.values(), ids=FAILURES.keys())
def test_an_errno_is_the_exit_status(guest: Guest, ask: Callable[[Guest], tuple[int, bytes]], number: int) -> None:
    (guest.root / "file").touch()
    (guest.root / "full/d").mkdir(parents=True)
    assert ask(guest) == (number, b"")
