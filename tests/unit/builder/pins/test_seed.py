"""The seed: one executable out of a .deb, by parsers that survive broken archives."""

import pytest

from mvmnix.builder.pins.locks import DebianPin, Seed
from mvmnix.builder.pins.seed import executable, seed_nar, seed_of
from mvmnix.errors import MvmnixError
from mvmnix.model import Digest
from mvmnix.nar import Dir, File, nar_hash, nar_of_tree
from tests.unit.builder.pins.small_index import ar, deb

BUSYBOX = b"\x7fELF busybox"


@pytest.mark.parametrize("compression", ["xz", "gz"])
@pytest.mark.parametrize("name", ["./usr/bin/busybox", "usr/bin/busybox"])
def test_a_member_is_taken_out(compression: str, name: str) -> None:
    data = deb({"./usr/share/doc": b"odd", name: BUSYBOX}, compression=compression)
    assert executable(data, "usr/bin/busybox") == BUSYBOX


def test_the_seed_has_the_hash_of_its_nar() -> None:
    pin = DebianPin("busybox-static", "1", "amd64", "pool/b/x_1_amd64.deb", 1, Digest.of(b""), ())
    tree, _ = nar_hash(nar_of_tree(Dir({b"bin": Dir({b"busybox": File.of(BUSYBOX, executable=True)})})))
    nar = b"".join(seed_nar("usr/bin/busybox", BUSYBOX))
    assert nar_hash([nar])[0] == tree
    assert seed_of(pin, "usr/bin/busybox", deb({"usr/bin/busybox": BUSYBOX})) == Seed(
        "busybox-static", "usr/bin/busybox", Digest.of(nar)
    )


GOOD = deb({"usr/bin/busybox": BUSYBOX})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "does not begin as an ar archive"),
        (b"PK" + GOOD, "does not begin as an ar archive"),
        (GOOD[:100], "no data archive"),
        (GOOD.replace(b"`\n", b"``"), "malformed ar header"),
        (b"!<arch>\n" + b"data.tar.xz/".ljust(48) + b"-1".ljust(10) + b"`\n", "malformed ar header"),
        (ar(debian_binary=b"2.0\n"), "no data archive"),
        (ar(data_tar_zst=b"\x28\xb5\x2f\xfd" + bytes(600)), "can't be read"),
        (ar(data_tar_xz=b"\xfd7zXZ\x00" + bytes(600)), "can't be read"),
        (GOOD[:-20], "cut off"),
        (deb({"usr/bin/bash": b"x"}), "no regular file usr/bin/busybox"),
    ],
)
def test_a_broken_deb_is_an_error(data: bytes, told: str) -> None:
    with pytest.raises(MvmnixError, match=told):
        executable(data, "usr/bin/busybox")
