"""Copies on the host's side: what is written lies beneath one directory, or nothing is; what is read is read still."""

import io
import os
import socket
import stat
import tarfile
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast, override

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, UsageError
from mvmnix.launch.copy import tarball
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import DEPTH, CopyKind, CopyLimits, Reader, Receiver, record_head
from mvmnix.launch.copy.tarball import TarWriter
from mvmnix.launch.copy.unpack import Unpack
from tests.descriptors import nothing_left_open

ROOT, LEAVE, END = record_head(CopyKind.DIRECTORY, mode=0o755), record_head(CopyKind.LEAVE), record_head(CopyKind.END)


def file(name: bytes, data: bytes, mode: int = 0o644) -> bytes:
    return record_head(CopyKind.FILE, name, mode=mode, size=len(data)) + data


def received(receiver: Receiver, chunks: Iterable[bytes], *, leaves_out: bool = False) -> list[str]:
    reader = Reader(receiver, CopyLimits(leaves_out=leaves_out))
    for chunk in chunks:
        reader.write(chunk)
    reader.close()
    return reader.skipped


def unpacked(
    target: Path,
    *chunks: bytes,
    name: bytes = b"it",
    replaces: bool = False,
    forces: bool = False,
    leaves_out: bool = False,
) -> list[str]:
    with Unpack(target, name, replaces=replaces, forces=forces) as it:
        skipped = received(it, chunks, leaves_out=leaves_out)
        it.commit()
    return skipped


def everything(where: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(where)): path.read_bytes() if path.is_file() else None for path in where.rglob("*")}


def test_a_file_and_a_tree(tmp_path: Path) -> None:
    unpacked(tmp_path, file(b"", b"data", 0o4), END, name=b"one")
    unpacked(
        tmp_path / "two", ROOT, file(b"\xff", b"x", 0o777), record_head(CopyKind.DIRECTORY, b"d"), LEAVE, LEAVE, END
    )
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", os.fsdecode(b"two/\xff"), "two/d")]
    assert modes == [0o4, 0o755, 0o700]
    (tmp_path / "one").chmod(0o600)
    assert everything(tmp_path) == {"one": b"data", "two": None, os.fsdecode(b"two/\xff"): b"x", "two/d": None}


def test_a_file_that_its_owner_may_not_read_is_removed_like_any_other(tmp_path: Path) -> None:
    """As a plain user; root may read everything."""
    with pytest.raises(RefusedError):
        unpacked(tmp_path, record_head(CopyKind.FILE, size=100, mode=0), b"half")
    assert everything(tmp_path) == {}


def test_nothing_is_replaced_unless_that_was_said_and_no_directory_ever(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"old")
    (tmp_path / "d/it").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/proc/nowhere")
    for target in (tmp_path, tmp_path / "it", tmp_path / "link", tmp_path / "d"):
        with pytest.raises(UsageError, match="is there already"):
            unpacked(target, file(b"", b"new"), END)
    with pytest.raises(UsageError, match="is there already"):
        unpacked(tmp_path / "d", file(b"", b"new"), END, replaces=True)
    with pytest.raises(UsageError, match="is there already"):
        unpacked(tmp_path, ROOT, LEAVE, END, replaces=True)
    assert (tmp_path / "it").read_bytes() == b"old"
    unpacked(tmp_path, file(b"", b"new"), END, replaces=True)
    with pytest.raises(UsageError, match="is there already"):
        unpacked(tmp_path / "link", file(b"", b"a file"), END, replaces=True)
    unpacked(tmp_path / "link", file(b"", b"a file"), END, forces=True)
    assert everything(tmp_path) == {"it": b"new", "d": None, "d/it": None, "link": b"a file"}
    assert not (tmp_path / "link").is_symlink()


def test_no_link_leads_to_where_a_copy_goes(tmp_path: Path) -> None:
    (tmp_path / "home/d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home")
    for target, why in (("link", "is there already"), ("link/d", "symbolic link"), ("link/new", "symbolic link")):
        with pytest.raises(UsageError, match=why):
            unpacked(tmp_path / target, file(b"", b"a guest's"), END)
    with pytest.raises(UsageError, match="symbolic link"):
        unpacked(tmp_path / "link/d", file(b"", b"a guest's"), END, replaces=True)
    assert everything(tmp_path / "home") == {"d": None}


def test_somebody_who_is_faster(tmp_path: Path) -> None:
    for begin, ends in ((file(b"", b"new"), END), (ROOT, LEAVE + END)):
        with Unpack(tmp_path, b"it", replaces=False) as it:
            received(it, (begin, ends))
            (tmp_path / "it").write_bytes(b"faster")
            with pytest.raises(UsageError, match="is there already"):
                it.commit()
        assert everything(tmp_path) == {"it": b"faster"}
        (tmp_path / "it").unlink()


@pytest.mark.parametrize(
    "chunks",
    [
        (file(b"", b"data"),),
        (ROOT, file(b"f", b"data"), record_head(CopyKind.DIRECTORY, b"d"), file(b"g", b"x")),
        (ROOT, file(b"f", b"data"), file(b"f", b"data"), LEAVE, END),
        (ROOT, record_head(CopyKind.DIRECTORY, b"d"), LEAVE, record_head(CopyKind.DIRECTORY, b"d"), LEAVE, LEAVE, END),
        (ROOT, record_head(CopyKind.LEFT_OUT, b"link", mode=10), LEAVE, END),
        (record_head(CopyKind.FILE, size=100), b"half"),
    ],
    ids=["no end", "a torn tree", "a file twice", "a directory twice", "a link", "half a file"],
)
def test_what_is_not_complete_is_removed(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    with nothing_left_open(), pytest.raises(RefusedError) as caught:
        unpacked(tmp_path, *chunks)
    assert caught.value.codes == (ReasonCode.COPY_REFUSED,)
    assert everything(tmp_path) == {}


def test_a_link_planted_meanwhile_is_not_followed(tmp_path: Path) -> None:
    """By whoever else may write there: what is written stays in the directory that was made."""
    (tmp_path / "other").mkdir()
    with Unpack(tmp_path / "to", b"", replaces=False) as it:
        reader = Reader(it, CopyLimits())
        reader.write(ROOT + record_head(CopyKind.DIRECTORY, b"d"))
        (temporary,) = tmp_path.glob(".mvm-cp.*")
        (temporary / "d").rename(tmp_path / "moved")
        (temporary / "d").symlink_to(tmp_path / "other")
        (tmp_path / "moved/f").symlink_to(tmp_path / "other/planted")
        with pytest.raises(RefusedError):
            reader.write(file(b"f", b"data"))
    assert list((tmp_path / "other").iterdir()) == []


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    link, device = record_head(CopyKind.LEFT_OUT, b"l", mode=10), record_head(CopyKind.LEFT_OUT, b"dev", mode=2)
    assert unpacked(tmp_path, ROOT, link, device, LEAVE, END, leaves_out=True) == ["l", "dev"]
    assert everything(tmp_path) == {"it": None}


@pytest.mark.parametrize("name", [b"", b"..", b"."])
def test_a_place_needs_a_name(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(UsageError, match="name"):
        unpacked(tmp_path, file(b"", b"data"), END, name=name)
    with pytest.raises(UsageError, match="No such file"):
        unpacked(tmp_path / "no/where", file(b"", b"data"), END)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "d/deeper").mkdir(parents=True)
    (made / "f").write_bytes(b"data" * 50_000)
    (made / "d/empty").touch(0o755)
    (made / "f").chmod(0o4711)
    return made


def test_there_and_back(tree: Path, tmp_path: Path) -> None:
    unpacked(tmp_path / "back", *Pack(CopyLimits()).chunks(tree))
    assert everything(tmp_path / "back") == everything(tree)
    assert stat.S_IMODE((tmp_path / "back/f").stat().st_mode) == 0o711, "setuid is nobody's"


def specials(tree: Path) -> None:
    (tree / "d/link").symlink_to("/etc/passwd")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tree / "socket"))


def test_links_and_special_files_are_refused_or_left_out(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"symbolic"):
        (tmp_path / "link").symlink_to(tree)
        list(Pack(CopyLimits(leaves_out=True)).chunks(tmp_path / "link"))
    clean = everything(tree)
    specials(tree)
    with pytest.raises(RefusedError) as caught:
        list(Pack(CopyLimits()).chunks(tree))
    assert caught.value.codes == (ReasonCode.COPY_REFUSED,)
    pack = Pack(CopyLimits(leaves_out=True))
    unpacked(tmp_path / "back", *pack.chunks(tree))
    assert everything(tmp_path / "back") == clean
    assert sorted(pack.skipped) == [f"{tree}/{name}" for name in ("d/link", "fifo", "socket")]
    with pytest.raises(RefusedError, match="neither"):
        list(Pack(CopyLimits(leaves_out=True)).chunks(tree / "fifo"))


def test_what_is_read_is_bounded(tree: Path, tmp_path: Path) -> None:
    for limits in (CopyLimits(records=4), CopyLimits(size=199_999)):
        with pytest.raises(RefusedError, match="more than"):
            list(Pack(limits).chunks(tree))
    deep = tmp_path.joinpath(*["x"] * (DEPTH + 1))
    deep.mkdir(parents=True)
    with pytest.raises(RefusedError, match="deep"):
        list(Pack(CopyLimits()).chunks(tmp_path / "x"))
    chunks = Pack(CopyLimits()).chunks(tree / "f")
    next(chunks)
    os.truncate(tree / "f", 10)
    with pytest.raises(MvmnixError, match="shorter"):
        list(chunks)


def test_tar_streams_there_and_back(tree: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write, b"t")
    long = tree / ("n" * 200) / "m"
    long.mkdir(parents=True)
    (long / "ü").write_bytes(b"far away")
    received(writer, Pack(CopyLimits()).chunks(tree))
    writer.commit()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert {it.name.partition("/")[2] for it in archive if it.isfile()} == {
            str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()
        }
    unpacked(tmp_path / "back", *tarball.chunks(io.BytesIO(out.getvalue()), Pack(CopyLimits())))
    assert everything(tmp_path / "back/t") == everything(tree)


def tar(*entries: tuple[str, bytes, int]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, size in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname, entry.mode = kind, size, "/etc/passwd", 0o4755
            archive.addfile(entry, io.BytesIO(bytes(size)) if size else None)
    return io.BytesIO(out.getvalue())


@pytest.mark.parametrize(
    "entry",
    [
        ("../up", tarfile.REGTYPE, 1),
        ("a/../../up", tarfile.REGTYPE, 1),
        ("/etc/passwd", tarfile.REGTYPE, 1),
        ("link", tarfile.SYMTYPE, 0),
        ("hard", tarfile.LNKTYPE, 0),
        ("device", tarfile.CHRTYPE, 0),
        ("fifo", tarfile.FIFOTYPE, 0),
        ("/".join("x" * (DEPTH + 1)), tarfile.DIRTYPE, 0),
        ("large", tarfile.REGTYPE, 2000),
    ],
    ids=lambda entry: entry[0][:10],
)
def test_a_tar_stream_with_what_is_not_copied(entry: tuple[str, bytes, int]) -> None:
    with pytest.raises(RefusedError) as caught:
        list(tarball.chunks(tar(("good", tarfile.REGTYPE, 3), entry), Pack(CopyLimits(size=1000))))
    assert caught.value.codes == (ReasonCode.COPY_REFUSED,)


def test_a_tar_stream_in_which_something_is_left_out(tmp_path: Path) -> None:
    pack = Pack(CopyLimits(leaves_out=True))
    stream = tar(("a/b/f", tarfile.REGTYPE, 3), ("link", tarfile.SYMTYPE, 0), ("c", tarfile.DIRTYPE, 0))
    unpacked(tmp_path / "to", *tarball.chunks(stream, pack))
    assert everything(tmp_path / "to") == {"a": None, "a/b": None, "a/b/f": bytes(3), "c": None}
    assert pack.skipped == ["link"]
    assert stat.S_IMODE((tmp_path / "to/a/b/f").stat().st_mode) == 0o755


def test_what_is_no_tar_stream() -> None:
    with pytest.raises(UsageError, match="not a tar stream"):
        list(tarball.chunks(io.BytesIO(b"x" * 10240), Pack(CopyLimits())))


def repeated(first: bytes, block: bytes, count: int) -> Iterator[bytes]:
    yield first
    yield from (block for _ in range(count))


class Stream(io.BufferedIOBase):
    """These bytes, as they are read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        return b"".join(islice(self._blocks, (size or 0) // tarfile.BLOCKSIZE))


def header(kind: bytes, size: int = 0) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def sparse() -> bytes:
    """A header of a sparse file whose map goes on behind it (GNU tar manual, "Basic Tar Format": oldgnu_header)."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE))
    block[482], block[148:156] = 1, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


#: Blocks that would fill memory: a name, a pax record, a map, and entries that are all left out.
MANY = 1 << 16
FLOODS = {
    "a long name": (header(tarfile.GNUTYPE_LONGNAME, MANY * 512), b"a" * 512),
    "a pax header": (header(tarfile.XHDTYPE, MANY * 512), b"a" * 512),
    "a sparse file's map": (sparse(), (b"%011o\0%011o\0" % (1, 1) * 21 + b"\1").ljust(512, b"\0")),
    "links": (header(tarfile.SYMTYPE), header(tarfile.SYMTYPE)),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_headers_of_a_tar_stream_fill_no_memory(flood: str) -> None:
    pack = Pack(CopyLimits(records=1000, leaves_out=True))
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as caught:
            list(tarball.chunks(cast("IO[bytes]", Stream(repeated(*FLOODS[flood], MANY))), pack))
        assert tracemalloc.get_traced_memory()[1] < MANY * 512 // 8
    finally:
        tracemalloc.stop()
    assert caught.value.codes == (ReasonCode.COPY_REFUSED,)


def test_a_map_that_breaks_off_is_no_tar_stream() -> None:
    with pytest.raises(UsageError, match="not a tar stream"):
        list(tarball.chunks(io.BytesIO(sparse()), Pack(CopyLimits())))
