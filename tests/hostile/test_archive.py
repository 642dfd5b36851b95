"""A builder VM that was taken over sends an archive: four plain files of known names come out of it, or a refusal."""

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.builder.session.archive import BLOCK, ArchiveReader
from mvmnix.builder.session.import_outputs import OUTPUTS
from mvmnix.errors import ReasonCode as Code
from mvmnix.errors import RefusedError
from tests.fakes import ustar

FILES = {"kernel": b"k" * 1000, "initrd": b"", "rootfs": b"r" * BLOCK * 3, "manifest.json": b"{}"}
BOUNDS = dict.fromkeys(OUTPUTS, 4096)


@dataclass
class Kept:
    """A receiver that remembers."""

    data: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.data += data

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@dataclass
class Desk:
    """A reader, and what it opened."""

    opened: dict[str, Kept] = field(default_factory=dict)

    def receive(self, name: str) -> Kept:
        assert name in OUTPUTS
        assert name not in self.opened
        self.opened[name] = Kept()
        return self.opened[name]

    def read(self, *pieces: bytes) -> dict[str, bytes]:
        reader = ArchiveReader(BOUNDS, self.receive)
        for piece in pieces:
            reader.write(piece)
        reader.close()
        assert all(kept.closed for kept in self.opened.values())
        return {name: bytes(kept.data) for name, kept in self.opened.items()}

    def refusal(self, *pieces: bytes) -> str:
        with pytest.raises(RefusedError) as caught:
            self.read(*pieces)
        assert set(caught.value.codes) == {Code.OUTPUT_MALFORMED}
        assert all(len(kept.data) <= BOUNDS[name] for name, kept in self.opened.items())
        return str(caught.value)


def header(name: bytes = b"kernel", size: bytes = b"00000001750\0", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header as another writer might make it, its checksum right."""
    head = bytearray(BLOCK)
    places = {"link": (157, 100), "magic": (257, 8), "major": (329, 8), "prefix": (345, 155)}
    head[0 : len(name)] = name
    head[100:108], head[108:116], head[116:124] = b"0000444\0", b"0000000\0", b"0000000\0"
    head[124:136], head[136:148], head[156:157] = size.ljust(12, b"\0"), b"00000000000\0", kind
    head[257:265] = b"ustar\00000"
    for field_, value in fields.items():
        at, width = places[field_]
        head[at : at + width] = value.ljust(width, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


GOOD = ustar(FILES)
END = bytes(2 * BLOCK)


def member(head: bytes, body: bytes = b"") -> bytes:
    return head + body + bytes(-len(body) % BLOCK)


def instead_of_kernel(head: bytes, body: bytes = b"") -> bytes:
    """The good archive with something else where its first file stood."""
    return member(head, body) + ustar({name: data for name, data in FILES.items() if name != "kernel"})


def test_a_good_one() -> None:
    assert Desk().read(GOOD) == FILES
    assert Desk().read(instead_of_kernel(header(), FILES["kernel"])) == FILES, "the twin of the rows below"


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        pytest.param(b"", "the middle", id="nothing"),
        pytest.param(END, "it lacks initrd, kernel", id="no file"),
        pytest.param(ustar({name: FILES[name] for name in OUTPUTS[:3]}), "it lacks manifest.json", id="a file less"),
        pytest.param(GOOD[:BLOCK], "the middle", id="a header alone"),
        pytest.param(GOOD[: BLOCK + 10], "the middle", id="a torn body"),
        pytest.param(GOOD[: BLOCK * 4 - 100], "the middle", id="a torn header"),
        pytest.param(GOOD.rstrip(b"\0"), "the middle", id="no end"),
        pytest.param(GOOD + b"\1", "follows its end", id="something behind the end"),
        pytest.param(GOOD + GOOD, "follows its end", id="another archive behind it"),
        pytest.param(instead_of_kernel(header(b"kernel2")), "not expected", id="an unknown name"),
        pytest.param(member(header(), FILES["kernel"]) + GOOD, "is listed twice", id="a name twice"),
        pytest.param(instead_of_kernel(header(b"/kernel")), "not expected", id="an absolute name"),
        pytest.param(instead_of_kernel(header(b"../kernel")), "not expected", id="a name upwards"),
        pytest.param(instead_of_kernel(header(b"./kernel")), "not expected", id="another spelling"),
        pytest.param(instead_of_kernel(header(b"kernel\0evil")), "not expected", id="a NUL in a name"),
        pytest.param(instead_of_kernel(header(b"kernel/")), "not expected", id="a directory's name"),
        pytest.param(instead_of_kernel(header(b"\xff" * 100)), "not expected", id="a name that is no text"),
        pytest.param(instead_of_kernel(header(prefix=b"..")), "not a plain file", id="a prefix"),
        *(
            pytest.param(instead_of_kernel(header(kind=kind, link=b"/etc/shadow")), "not a plain file", id=what)
            for kind, what in {
                b"1": "a hard link",
                b"2": "a symbolic link",
                b"3": "a character device",
                b"4": "a block device",
                b"5": "a directory",
                b"6": "a FIFO",
                b"7": "a contiguous file",
                b"S": "a sparse file of GNU's",
                b"L": "a long name of GNU's",
                b"K": "a long link of GNU's",
                b"M": "a volume's continuation",
                b"x": "an extended header",
                b"g": "a global extended header",
                b"\0": "an old tar's file",
                b"Z": "something unheard of",
            }.items()
        ),
        pytest.param(instead_of_kernel(header(magic=b"ustar  \0")), "not a plain file", id="GNU's own format"),
        pytest.param(instead_of_kernel(header(magic=b"")), "not a plain file", id="version 7"),
        pytest.param(instead_of_kernel(header(size=b"00000010001")), "larger than allowed", id="a byte too many"),
        pytest.param(instead_of_kernel(header(size=b"77777777777")), "larger than allowed", id="8 GiB"),
        pytest.param(instead_of_kernel(header(size=b"777777777777")), "larger than allowed", id="64 GiB"),
        pytest.param(instead_of_kernel(header(size=b"\x80" + bytes(11))), "not an octal", id="a binary size"),
        pytest.param(instead_of_kernel(header(size=b"\xff" * 12)), "not an octal", id="a negative size"),
        pytest.param(instead_of_kernel(header(size=b"-0000000001")), "not an octal", id="a minus"),
        pytest.param(instead_of_kernel(header(size=b"+0000000001")), "not an octal", id="a plus"),
        pytest.param(instead_of_kernel(header(size=b"0x000000001")), "not an octal", id="hexadecimal"),
        pytest.param(instead_of_kernel(header(size=b"0000_0000_1")), "not an octal", id="underscores"),
        pytest.param(instead_of_kernel(header(size=b"00000000009")), "not an octal", id="a nine"),
        pytest.param(instead_of_kernel(header(size=b"000\00000001")), "not an octal", id="a NUL between"),
        pytest.param(instead_of_kernel(header(size=b"")), "not an octal", id="no size"),
        pytest.param(instead_of_kernel(b"\1" + header()[1:]), "checksum is wrong", id="another checksum"),
        pytest.param(instead_of_kernel(header()[:148] + bytes(8) + header()[156:]), "not an octal", id="no checksum"),
        pytest.param(b"\x7fELF" + os.urandom(4096), "", id="something else"),
        pytest.param(b"PK\3\4" + bytes(4096), "", id="a zip"),
    ],
)
def test_refused(archive: bytes, why: str) -> None:
    assert why in Desk().refusal(archive)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_changes_a_file_or_is_refused(position: int, flip: int) -> None:
    changed = bytearray(GOOD)
    changed[position] ^= flip
    desk = Desk()
    try:
        found = desk.read(bytes(changed))
    except RefusedError as error:
        assert set(error.codes) == {Code.OUTPUT_MALFORMED}
    else:
        assert {name: len(data) for name, data in found.items()} == {name: len(data) for name, data in FILES.items()}


@given(st.binary(max_size=4 * BLOCK), st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_no_bytes_break_it(data: bytes, sizes: list[int]) -> None:
    pieces = [data[at : at + sizes[0]] for at in range(0, len(data), sizes[0])]
    Desk().refusal(*pieces)


@given(st.integers(1, 1500))
def test_it_does_not_matter_how_it_arrives(size: int) -> None:
    assert Desk().read(*(GOOD[at : at + size] for at in range(0, len(GOOD), size))) == FILES
