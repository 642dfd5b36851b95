"""The seed: one executable out of a .deb, which is unpacked in the sandbox and in bounds."""

import io
import tarfile
import tracemalloc

import pytest

from mvmnix.builder.pins.locks import DebianPin, Seed
from mvmnix.builder.pins.seed import LIMIT, executable, seed_nar, seed_of
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.formats.nar import Dir, File, nar_hash, nar_of_tree
from tests.unit.builder.pins.small_index import ar, deb, deb_of

BUSYBOX = b"\x7fELF busybox"
PATH = "usr/bin/busybox"
PIN = DebianPin("busybox-static", "1", "amd64", "pool/b/x_1_amd64.deb", 1, Digest.of(b""), ())


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_a_member_is_taken_out(compression: str) -> None:
    data = deb({"./usr/share/doc": b"odd", f"./{PATH}": BUSYBOX}, compression=compression)
    assert executable(PIN.source, data, PATH) == BUSYBOX


def test_the_seed_has_the_hash_of_its_nar() -> None:
    tree, _ = nar_hash(nar_of_tree(Dir({b"bin": Dir({b"busybox": File.of(BUSYBOX, executable=True)})})))
    nar = b"".join(seed_nar(PATH, BUSYBOX))
    assert nar_hash([nar])[0] == tree
    assert seed_of(PIN, PATH, deb({f"./{PATH}": BUSYBOX})) == Seed("busybox-static", PATH, Digest.of(nar))


def entry(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def filled(*entries: tarfile.TarInfo) -> bytes:
    """A .deb with these entries, whose contents are zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for one in entries:
            tar.addfile(one, io.BytesIO(bytes(one.size)))
    return deb_of("gz", buffer.getvalue())


GOOD = deb({f"./{PATH}": BUSYBOX})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not a Debian binary archive|unexpected end of file"),
        (b"PK" + GOOD, "not a Debian"),
        (ar(**{"debian-binary": b"2.0\n"}), "unexpected end of file"),
        (GOOD.replace(b"`\n", b"``"), "corrupt"),
        (deb_of("xz", b"\xfd7zXZ\x00" + bytes(600)), "corrupt|lzma error"),
        (GOOD[:-20], "unexpected end"),
        (deb({"./usr/bin/bash": b"x"}), "Not found in archive"),
        (filled(entry(f"./{PATH}", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "no regular file"),
        (filled(entry("./x", 9), entry(f"./{PATH}", type=tarfile.LNKTYPE, linkname="./x")), "no regular file"),
        (filled(entry(f"./{PATH}", type=tarfile.DIRTYPE), entry(f"./{PATH}/x", 9)), "no regular file"),
    ],
)
def test_a_broken_deb_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RefusedError, match=told) as refusal:
        executable(PIN.source, data, PATH)
    assert refusal.value.codes == (ReasonCode.SOURCE_UNUSABLE,)


#: Small in the package, and more than a seed may have: the seed itself, its header (GNU), what stands before it.
BOMBS = {
    "a seed": (entry(f"./{PATH}", LIMIT + 1),),
    "a name": (entry("././@LongLink", LIMIT * 2, type=tarfile.GNUTYPE_LONGNAME), entry(f"./{PATH}", 1)),
    "another file": (entry("./x", LIMIT * 2), entry(f"./{PATH}", 1)),
}


@pytest.mark.parametrize("entries", BOMBS.values(), ids=list(BOMBS))
def test_a_bomb_goes_off_in_the_sandbox(entries: tuple[tarfile.TarInfo, ...]) -> None:
    data = filled(*entries)
    assert len(data) < LIMIT // 100
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as refusal:
            executable(PIN.source, data, PATH)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()
    assert refusal.value.codes == (ReasonCode.SOURCE_UNUSABLE,)
