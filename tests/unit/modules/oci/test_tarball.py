"""A layer's archive: what the usual writers write is read, and what two readers could read in two ways is refused."""

import io
import tarfile

import pytest

from modules.oci.tarball import Entry, Kind, LayerError, entries
from tests.unit.modules.oci.layers import (
    END,
    archive,
    block,
    file,
    folder,
    hard_link,
    member,
    padded,
    pax,
    record,
    symlink,
)


def read(data: bytes) -> list[Entry]:
    return list(entries(io.BytesIO(data), len(data)))


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes_is_read(style: int) -> None:
    long = "d" * 60 + "/" + "f" * 90  # ustar has two fields for it
    data = archive(
        folder("d" * 60, mode=0o1777, uid=7, gid=8),
        file(long, b"hello", mode=0o4755),
        symlink("l", long[:90]),
        style=style,
    )
    first, second, third = read(data)
    assert (first.kind, first.mode, first.uid, first.gid) == (Kind.DIRECTORY, 0o1777, 7, 8)
    assert (second.name, second.size, second.mode) == (long.encode(), 5, 0o4755)
    assert data[second.offset : second.offset + 5] == b"hello"
    assert (third.kind, third.link) == (Kind.SYMLINK, long[:90].encode())


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_numbers(style: int) -> None:
    name, target = "a/" * 500 + "f", "b/" * 600 + "g"
    found = read(archive(file(name, b"x", uid=3_000_000, gid=4_000_000_000), hard_link("l", target), style=style))
    assert [(one.name.decode(), one.link.decode()) for one in found] == [(name, ""), ("l", target)]
    assert (found[0].uid, found[0].gid) == (3_000_000, 4_000_000_000)


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_bytes_are_a_name(style: int) -> None:
    (found,) = read(archive(file("a\nb\udcff\x1b[2J"), style=style))
    assert found.name == b"a\nb\xff\x1b[2J"


def test_attributes_are_left_out() -> None:
    info, data = file("f", b"x")
    info.pax_headers = {"SCHILY.xattr.security.capability": "\x01", "mtime": "1.5", "comment": "hi"}
    assert [one.name for one in read(archive((info, data)))] == [b"f"]


def test_the_comment_of_git_archive_is_passed_over() -> None:
    comment = record(b"comment", b"0123")
    data = block(b"pax_global_header", b"g", len(comment)) + padded(comment) + block(b"f") + END
    assert [one.name for one in read(data)] == [b"f"]


REFUSED = {
    "nothing at all": (b"", "cut off"),
    "no end": (block(), "cut off"),
    "an odd length": (block()[:100], "cut off"),
    "contents cut off": (block(b"x", b"0", 1000) + bytes(512), "cut off"),
    "something behind the end": (END + b"x", "behind the archive's end"),
    "a second archive": (END + block() + END, "behind the archive's end"),
    "a wrong sum": (b"y" + block()[1:] + END, "sum is wrong"),
    "an old header": (block(magic=bytes(8)) + END, "neither ustar's"),
    "a name of zeros": (block(b"") + END, "empty"),
    "a sparse file": (block(b"x", b"S") + END, "not supported"),
    "a volume": (block(b"x", b"V") + END, "not supported"),
    "a contiguous file": (block(b"x", b"7") + END, "not supported"),
    "a pax sparse file": (pax(record(b"GNU.sparse.major", b"1")) + block() + END, "sparse"),
    "another pax sparse file": (pax(record(b"SCHILY.realsize", b"9")) + block() + END, "sparse"),
    "pax for all that follows": (block(b"g", b"g", 13) + padded(record(b"path", b"abcd")) + END, "for all entries"),
    "an unknown pax keyword": (pax(record(b"realpath", b"x")) + block() + END, "not known"),
    "pax that counts too far": (pax(b"99 path=x\n") + block() + END, "can't be read"),
    "pax that counts too little": (pax(b"5 path=x\n") + block() + END, "can't be read"),
    "pax without an end": (pax(b"9 path=xy") + block() + END, "can't be read"),
    "pax that counts from nought": (pax(b"010 path=x\n") + block() + END, "can't be read"),
    "pax without records": (pax(b"hello") + block() + END, "can't be read"),
    "a zero in a name": (pax(record(b"path", b"a\0b")) + block() + END, "zero byte"),
    "a zero in a target": (pax(record(b"linkpath", b"a\0b")) + block(b"x", b"2", link=b"x") + END, "zero byte"),
    "an empty name": (pax(record(b"path", b"")) + block() + END, "empty"),
    "a name beyond all paths": (pax(record(b"path", b"a" * 5000)) + block() + END, "too long"),
    "a pax size that is not a number": (pax(record(b"size", b"-1")) + block() + END, "no size"),
    "a pax size out of bounds": (pax(record(b"size", b"9" * 19)) + block() + END, "no size"),
    "a size that lies": (pax(record(b"size", b"4096")) + block() + END, "cut off"),
    "a pax user out of bounds": (pax(record(b"uid", b"4294967295")) + block() + END, "no uid"),
    "two pax headers": (pax(record(b"path", b"a")) + pax(record(b"path", b"b")) + block() + END, "two kinds"),
    "pax and GNU": (
        pax(record(b"path", b"a")) + block(b"x", b"L", 2) + padded(b"b\0") + block() + END,
        "two kinds",
    ),
    "two long names": ((block(b"x", b"L", 2) + padded(b"b\0")) * 2 + block() + END, "two long names"),
    "a header for nothing": (pax(record(b"path", b"a")) + END, "after an extended header"),
    "a pax header of a gigabyte": (block(b"p", b"x", 1 << 30) + END, "extended header of"),
    "a long name of a gigabyte": (block(b"p", b"L", 1 << 30) + END, "extended header of"),
    "a negative size": (block()[:124] + b"\xff" * 12 + block()[136:], "sum is wrong"),
    "a negative number": (block(uid=b"\xff" * 8) + END, "no number"),
    "a number that is none": (block(uid=b"12x45") + END, "no number"),
    "two numbers": (block(uid=b"12\x0034") + END, "no number"),
    "a directory with contents": (block(b"x", b"5", 1) + padded(b"x") + END, "is not a file"),
    "a link with contents": (block(b"x", b"1", 1, link=b"y") + padded(b"x") + END, "is not a file"),
    "a link to nothing": (block(b"x", b"2") + END, "links to nothing"),
    "a file like a directory": (block(b"x/") + END, "named like a directory"),
}


@pytest.mark.parametrize(("data", "why"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(LayerError, match=why):
        read(data)


def test_large_sizes_are_read_as_numbers_only() -> None:
    """Eight exabytes in GNU's form: the archive is shorter, and nothing was reserved for it."""
    with pytest.raises(LayerError, match="too large"):
        read(block(b"x", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7) + END)
    with pytest.raises(LayerError, match="cut off"):
        read(block(b"x", size=b"\x80" + b"\0" * 5 + b"\x01" + b"\0" * 5) + END)


def test_devices_are_told_apart() -> None:
    found = read(archive(member("c", tarfile.CHRTYPE), member("b", tarfile.BLKTYPE), member("p", tarfile.FIFOTYPE)))
    assert [one.kind for one in found] == [Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE, Kind.FIFO]
