"""The records of a copy: what a guest sends is bounded and typed, and what doesn't fit is refused before it is used."""

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.copy.records import DEPTH, CopyKind, CopyLimits, Reader, is_name, record_head

FILE = record_head(CopyKind.FILE, mode=0o644, size=2) + b"hi"
DIRECTORY, LEAVE, END = (
    record_head(CopyKind.DIRECTORY, mode=0o755),
    record_head(CopyKind.LEAVE),
    record_head(CopyKind.END),
)
INNER = record_head(CopyKind.FILE, b"f", mode=0o600, size=1) + b"x"


@dataclass
class Heard:
    """A receiver that remembers."""

    said: list[tuple[object, ...]] = field(default_factory=list)

    def file(self, name: bytes, mode: int, size: int) -> None:
        self.said.append(("file", name, mode, size))

    def data(self, data: bytes) -> None:
        self.said.append(("data", data))

    def file_end(self) -> None:
        self.said.append(("file end",))

    def enter(self, name: bytes, mode: int) -> None:
        self.said.append(("enter", name, mode))

    def leave(self) -> None:
        self.said.append(("leave",))


def read(*parts: bytes, limits: CopyLimits | None = None) -> list[tuple[object, ...]]:
    heard = Heard()
    reader = Reader(heard, limits or CopyLimits())
    for part in parts:
        reader.write(part)
    reader.close()
    return heard.said


def test_a_file_and_a_tree() -> None:
    assert read(FILE, END) == [("file", b"", 0o644, 2), ("data", b"hi"), ("file end",)]
    empty = record_head(CopyKind.FILE, b"\xff\n", mode=0)
    link = record_head(CopyKind.LEFT_OUT, b"l", mode=10)
    tree = (DIRECTORY, empty, record_head(CopyKind.DIRECTORY, b"d", mode=0o700), link, LEAVE, LEAVE, END)
    assert read(*tree, limits=CopyLimits(leaves_out=True)) == [
        ("enter", b"", 0o755),
        ("file", b"\xff\n", 0, 0),
        ("file end",),
        ("enter", b"d", 0o700),
        ("leave",),
        ("leave",),
    ]
    with pytest.raises(RefusedError, match="it is a symbolic link, and those are not copied; --leave-out goes on"):
        read(*tree)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_cutting_gives_the_same(cuts: list[int]) -> None:
    data, parts = DIRECTORY + INNER + record_head(CopyKind.FILE, b"empty", mode=1) + LEAVE + END, list[bytes]()
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    said = read(*parts, data)
    assert [it for it in said if it[0] != "data"] == [
        ("enter", b"", 0o755),
        ("file", b"f", 0o600, 1),
        ("file end",),
        ("file", b"empty", 1, 0),
        ("file end",),
        ("leave",),
    ]


def raw(
    kind: int, name: bytes = b"", *, mode: int = 0, size: int = 0, zero: int = 0, length: int | None = None
) -> bytes:
    return struct.pack(">BBHIQ", kind, zero, mode, len(name) if length is None else length, size) + name


BAD: dict[str, bytes] = {
    "nothing": b"",
    "an end alone": END,
    "a leave alone": LEAVE,
    "no end": FILE,
    "an end too early": DIRECTORY + END,
    "a directory that is never left": DIRECTORY + INNER,
    "half a file": record_head(CopyKind.FILE, mode=0, size=9) + b"half",
    "two roots": FILE + FILE + END,
    "something behind": FILE + END + b"\0",
    "left too often": DIRECTORY + LEAVE + LEAVE + END,
    "a link for a root": raw(CopyKind.LEFT_OUT, mode=10) + END,
    "a root with a name": raw(CopyKind.FILE, b"name") + END,
    "an entry without a name": DIRECTORY + raw(CopyKind.FILE) + LEAVE + END,
    "above": DIRECTORY + raw(CopyKind.FILE, b"..") + LEAVE + END,
    "here": DIRECTORY + raw(CopyKind.DIRECTORY, b".") + LEAVE + LEAVE + END,
    "elsewhere": DIRECTORY + raw(CopyKind.FILE, b"/etc/passwd") + LEAVE + END,
    "beneath": DIRECTORY + raw(CopyKind.FILE, b"a/b") + LEAVE + END,
    "with a NUL": DIRECTORY + raw(CopyKind.FILE, b"a\0b") + LEAVE + END,
    "a long name": DIRECTORY + raw(CopyKind.FILE, b"x" * 256) + LEAVE + END,
    "a name without end": DIRECTORY + raw(CopyKind.FILE, b"x", length=2**32 - 1),
    "setuid": raw(CopyKind.FILE, mode=0o4755) + END,
    "sticky": raw(CopyKind.DIRECTORY, mode=0o1777) + LEAVE + END,
    "a device": DIRECTORY + raw(CopyKind.LEFT_OUT, b"d", mode=3) + LEAVE + END,
    "a mode for nothing": DIRECTORY + raw(CopyKind.LEAVE, mode=1) + END,
    "a size for a directory": raw(CopyKind.DIRECTORY, size=1) + LEAVE + END,
    "a size for the end": FILE + raw(CopyKind.END, size=1),
    "a name for the end": FILE + raw(CopyKind.END, b"x"),
    "no kind": raw(0) + END,
    "another kind": raw(6) + END,
    "reserved": raw(CopyKind.FILE, zero=1) + END,
    "too large": raw(CopyKind.FILE, size=2**63) + END,
    "too deep": DIRECTORY + raw(CopyKind.DIRECTORY, b"d") * DEPTH + LEAVE * (DEPTH + 1) + END,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_a_guest_may_not_send(data: bytes) -> None:
    for parts in ((data,), tuple(data[n : n + 1] for n in range(len(data)))):
        with pytest.raises(RefusedError) as caught:
            read(*parts)
        assert caught.value.codes == (ReasonCode.COPY_REFUSED,)


@given(st.binary(max_size=300))
def test_noise_is_refused_or_a_copy(noise: bytes) -> None:
    heard = Heard()
    reader = Reader(heard, CopyLimits())
    try:
        reader.write(noise)
    except RefusedError as error:
        assert error.codes == (ReasonCode.COPY_REFUSED,)
    names = [it[1] for it in heard.said if it[0] in {"file", "enter"}]
    assert all(name == b"" or (isinstance(name, bytes) and is_name(name)) for name in names)


def test_so_many_and_so_much_and_so_deep_and_no_more() -> None:
    tree = (DIRECTORY, INNER, raw(CopyKind.FILE, b"g", size=1), b"y", LEAVE, END)
    read(*tree, limits=CopyLimits(records=5, size=2))
    for limits in (CopyLimits(records=4, size=2), CopyLimits(records=5, size=1)):
        with pytest.raises(RefusedError, match="more than"):
            read(*tree, limits=limits)
    deep = raw(CopyKind.DIRECTORY, b"d") * (DEPTH - 1)
    assert len(read(DIRECTORY, deep, LEAVE * DEPTH, END)) == 2 * DEPTH


def test_a_size_is_refused_before_its_bytes_come() -> None:
    reader = Reader(Heard(), CopyLimits(size=10))
    with pytest.raises(RefusedError, match="more than 10 bytes"):
        reader.write(raw(CopyKind.FILE, size=11))


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"a\0b", b"x" * 256])
def test_nobody_writes_such_a_name(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a name"):
        record_head(CopyKind.FILE, name)
