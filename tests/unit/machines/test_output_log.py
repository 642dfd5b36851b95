"""What a command prints is kept in order, up to a bound; what is missing is counted, whatever disk and killer do."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import MvmnixError
from mvmnix.machines.output_log import NEWER, OLDER, Missing, Output, OutputLog, OutputReader, Piece
from mvmnix.system.private_dirs import Directory

OUT, ERR = Output


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "machine")) as made:
        yield made


def read(directory: Directory) -> list[Piece | Missing]:
    with closing(OutputReader(directory)) as reader:
        return list(reader.read())


def text(found: list[Piece | Missing]) -> bytes:
    return b"".join(it.data for it in found if isinstance(it, Piece))


def size(directory: Directory) -> int:
    return sum(os.stat(name, dir_fd=directory.fd).st_size for name in directory.names())


def test_both_outputs_are_kept_in_order(directory: Directory) -> None:
    log = OutputLog(directory, 1000)
    log.keep(OUT)(b"one\n")
    log.keep(ERR)(b"two\n")
    log.keep(OUT)(b"three\n")
    assert read(directory) == [Piece(OUT, b"one\n"), Piece(ERR, b"two\n"), Piece(OUT, b"three\n")]
    log.close()
    log.close()
    log.write(OUT, b"late")
    assert text(read(directory)) == b"one\ntwo\nthree\n"


def test_the_oldest_is_dropped_and_its_length_told(directory: Directory) -> None:
    log = OutputLog(directory, 1000)
    said = b"".join(b"%05d\n" % number for number in range(1000))
    for at in range(0, len(said), 60):
        log.write(OUT, said[at : at + 60])
        assert size(directory) <= 1000
    missing, *pieces = read(directory)
    assert isinstance(missing, Missing)
    assert said[missing.count :] == text(pieces)
    assert len(text(pieces)) > 400
    assert directory.names() == (OLDER, NEWER)
    log.close()


def test_of_more_than_fits_the_end_is_kept(directory: Directory) -> None:
    log = OutputLog(directory, 1024)
    log.write(OUT, b"begin")
    log.write(ERR, os.urandom(1 << 20) + b"the end")
    log.close()
    found = read(directory)
    (missing,) = (it.count for it in found if isinstance(it, Missing))
    assert missing + len(text(found)) == 5 + (1 << 20) + 7
    assert text(found).endswith(b"the end")
    assert size(directory) <= 1024


def test_nothing_is_kept_where_the_bound_is_nothing(directory: Directory) -> None:
    log = OutputLog(directory, 0)
    log.write(OUT, b"x")
    log.close()
    assert directory.names() == ()


@given(
    limit=st.integers(64, 600),
    writes=st.lists(
        st.tuples(st.sampled_from(Output), st.binary(min_size=1, max_size=300), st.booleans()), max_size=40
    ),
)
def test_a_reader_that_follows_gets_all_that_it_is_in_time_for(
    limit: int, writes: list[tuple[Output, bytes, bool]]
) -> None:
    with (
        tempfile.TemporaryDirectory() as path,
        Directory.open(path) as directory,
        closing(OutputReader(directory)) as reader,
    ):
        log = OutputLog(directory, limit)
        seen, count = list[Piece | Missing](), 0
        for output, data, is_read in writes:
            log.write(output, data)
            assert size(directory) <= limit
            seen += list(reader.read()) if is_read else []
        log.close()
        seen += list(reader.read())
        said = b"".join(data for _, data, _ in writes)
        for it in seen:
            if isinstance(it, Piece):
                assert it.data == said[count : count + len(it.data)]
            count += it.count if isinstance(it, Missing) else len(it.data)
        assert count == len(said)
        assert list(reader.read()) == []


def test_a_full_disk_loses_what_it_does_not_take_and_says_so(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = OutputLog(directory, 1000)
    log.write(OUT, b"before ")
    whole = os.pwrite

    def short(fd: int, data: bytes, at: int) -> int:
        return whole(fd, data[:7], at)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", short)
        log.write(OUT, b"lost")
        assert read(directory) == [Piece(OUT, b"before ")], "half a record is none"
    log.write(OUT, b"after")
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", short)
        log.write(ERR, b"lost at the end")
    log.close()
    assert read(directory) == [Piece(OUT, b"before "), Missing(4), Piece(OUT, b"after"), Missing(15)]


def test_a_disk_without_room_for_a_file_is_asked_again(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Directory, _name: str) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as broken:
        broken.setattr(Directory, "create_file", full)
        log = OutputLog(directory, 1000)
        log.write(OUT, b"lost")
    assert read(directory) == []
    log.write(OUT, b"found")
    log.close()
    assert read(directory) == [Missing(4), Piece(OUT, b"found")]


@pytest.mark.parametrize("left", [1, 4, 5, 8])
def test_a_writer_that_was_killed_in_a_record(directory: Directory, left: int) -> None:
    log = OutputLog(directory, 1000)
    log.write(OUT, b"whole")
    before = size(directory)
    log.write(OUT, b"torn")
    os.truncate(directory.where(NEWER), before + left)
    assert read(directory) == [Piece(OUT, b"whole")]
    log.close()


@pytest.mark.parametrize("limit", [200, 5_000])
def test_a_writer_that_is_killed_while_it_is_read(directory: Directory, limit: int) -> None:
    """Another process, at no chosen moment: what is read is what it printed, each byte in its place."""
    pattern = bytes(range(251)) * 40
    child = os.fork()
    if child == 0:
        log, at = OutputLog(directory, limit), 0
        while True:
            log.write(Output(1 + at % 2), pattern[at % 251 : at % 251 + 1 + at % 97])
            at += 1 + at % 97
    count = 0
    with closing(OutputReader(directory)) as reader:
        while count < 60_000:
            count = checked(reader, count, pattern)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        count = checked(reader, count, pattern)
    with closing(OutputReader(directory)) as again:
        assert checked(again, 0, pattern) == count
    assert size(directory) <= limit


def checked(reader: OutputReader, count: int, pattern: bytes) -> int:
    """Read what is there; each byte says where it belongs. Returns the position of the next one."""
    for it in reader.read():
        if isinstance(it, Piece):
            assert it.data == pattern[count % 251 : count % 251 + len(it.data)]
        count += it.count if isinstance(it, Missing) else len(it.data)
    return count


def test_a_slow_reader_gets_the_last_file_of_a_writer_that_was_killed_between_two(directory: Directory) -> None:
    log = OutputLog(directory, 200)
    log.write(OUT, b"a" * 50)
    with closing(OutputReader(directory)) as reader:
        assert list(reader.read()) == [Piece(OUT, b"a" * 50)]
        log.write(OUT, b"b" * 90)
        log.write(OUT, b"c" * 50)  # the file that is read has no name any more
        directory.rename(NEWER, OLDER)
        assert list(reader.read()) == [Piece(OUT, b"b" * 27), Missing(77), Piece(OUT, b"c" * 36)]
    log.close()


def test_a_writer_that_was_killed_between_two_files(directory: Directory) -> None:
    log = OutputLog(directory, 1000)
    log.write(OUT, b"x")
    log.close()
    directory.rename(NEWER, OLDER)
    with closing(OutputReader(directory)) as reader:
        assert reader.has_begun
        assert list(reader.read()) == [Piece(OUT, b"x")]
        assert list(reader.read()) == []
    os.close(directory.create_file(NEWER))
    assert read(directory) == [Piece(OUT, b"x")]


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\0\0\0\x01x" + bytes(20),  # no position at its beginning
        b"\0\0\0\0\x08" + bytes(8) + b"\x03\0\0\0\x01x",
        b"\0\0\0\0\x08" + bytes(8) + b"\x01\xff\xff\xff\xffx",
        b"\0\0\0\0\x08" + bytes(8) + b"\0\0\0\0\x07" + bytes(7),
        b"\0\0\0\0\x08" + bytes(7) + b"\x05" + b"\0\0\0\0\x08" + bytes(8),  # back to what was read
    ],
)
def test_a_file_that_is_none(directory: Directory, data: bytes) -> None:
    with os.fdopen(directory.create_file(NEWER), "wb") as file:
        file.write(data)
    with pytest.raises(MvmnixError, match="not what mvm writes"):
        read(directory)


def test_a_flood_does_not_hold_a_reader(directory: Directory) -> None:
    log = OutputLog(directory, 1000)
    log.write(OUT, b"x" * 100)
    with closing(OutputReader(directory)) as reader:
        for number, _ in enumerate(reader.read()):
            assert number < 100
            log.write(OUT, b"x" * 300)
    log.close()


def test_a_link_is_not_followed(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"theirs")
    os.symlink(tmp_path / "secret", NEWER, dir_fd=directory.fd)
    log = OutputLog(directory, 1000)
    log.write(OUT, b"x")
    log.close()
    assert (tmp_path / "secret").read_bytes() == b"theirs"
    with pytest.raises(MvmnixError, match="not a regular file"):
        read(directory)
