"""The shared nouns: what Nix itself says about hashes and store paths, and what constructors refuse."""

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvmnix.arguments import is_subdirectory
from mvmnix.digest import Digest, nix32
from mvmnix.formats.nar import nar_hash, nar_of_file
from mvmnix.model import Artifact, FlakeRef, HashMode, Source, StorePath, User, Verity, store_name

#: Printed by nix-hash, nix-store --add-fixed and nix-store --print-fixed-path (2.26.3) for a file with this line.
LINE = b"hello\n"
FLAT = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
FLAT32 = "00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq"
NAR = "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13"
NAR32 = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes.fromhex(FLAT), FLAT32),
        (bytes.fromhex(NAR), NAR32),
        (bytes(19) + b"\1", "04000000000000000000000000000000"),
        (b"\xff" * 31 + b"\0", "007zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
        (bytes.fromhex("0123456789abcdef" * 2), "7grnmqjrs54c0yzkdbi5kla8q1"),
        (b"", ""),
    ],
)
def test_base_32_as_nix_writes_it(data: bytes, text: str) -> None:
    assert nix32(data) == text


def test_digests_of_known_files() -> None:
    assert Digest.of(LINE) == Digest(FLAT)
    nar, _ = nar_hash(nar_of_file(len(LINE), (LINE,)))
    assert (nar.hex, nar.nix32) == (NAR, NAR32)
    assert str(nar) == f"sha256:{NAR}"
    assert nar.raw.hex() == NAR


def test_store_paths_of_known_files() -> None:
    assert str(StorePath.flat("hello.txt", Digest(FLAT))) == "/nix/store/gy454w1cxaq731grqwylhzf4pp9r5izh-hello.txt"
    assert str(StorePath.recursive("hello.txt", Digest(NAR))) == "/nix/store/i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt"
    odd = StorePath.flat("a+b?c=d_e.f-g", Digest(FLAT))
    assert str(odd) == "/nix/store/z47k070w65f6s7w412j0kkyijsya2h59-a+b?c=d_e.f-g"
    tree = Source("path:x", "source", Digest(NAR), HashMode.NAR)
    assert str(tree.store_path) == "/nix/store/h10qymscvggrb1icws0vbss5xnx8sd0k-source"
    assert Source("mirror://x", "hello.txt", Digest(FLAT)).store_path == StorePath.flat("hello.txt", Digest(FLAT))


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_has_one_form_of_each_kind(raw: bytes) -> None:
    digest = Digest(raw.hex())
    assert Digest.from_sri(digest.sri) == digest
    assert digest.sri == "sha256-" + base64.b64encode(raw).decode()
    assert len(digest.nix32) == 52


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "sha256:" + "0" * 64])
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256 digest"):
        Digest(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256-", "sha256", "sha512-" + "A" * 43 + "=", "SHA256-" + "A" * 43 + "="),
        *("sha256-" + "A" * 42 + "==", "sha256-" + "A" * 44, "sha256-" + "A" * 43, "sha256-" + "A" * 43 + "=\n"),
        *("sha256-" + "_" * 43 + "=", "sha256-ü", "sha256-" + "A" * 42 + "B="),  # the last names bits that aren't there
    ],
)
def test_what_is_no_sri_hash(text: str) -> None:
    with pytest.raises(ValueError):
        Digest.from_sri(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/nix/store/", "/nix/store", "/etc/passwd", "0" * 32 + "-x", "/nix/store/" + "0" * 32),
        *("/nix/store/" + "0" * 32 + "-", "/nix/store/" + "0" * 31 + "-x", "/nix/store/" + "e" * 32 + "-x"),
        *("/nix/store/" + "0" * 32 + "-a/b", "/nix/store/" + "0" * 32 + "-a b", "/nix/store/" + "0" * 32 + "-a\n"),
        *("/nix/store/" + "0" * 32 + "-" + "x" * 212, "/nix/store//nix/store/" + "0" * 32 + "-x"),
    ],
)
def test_what_is_no_store_path(text: str) -> None:
    with pytest.raises(ValueError, match="not a store path"):
        StorePath.parse(text)


def test_store_paths_are_read_as_they_are_written() -> None:
    path = StorePath.flat("a.deb", Digest(FLAT))
    assert StorePath.parse(str(path)) == path
    for name in ("", "a/b", "ü", "x" * 212, "a\n"):
        with pytest.raises(ValueError, match="not a store path's name"):
            StorePath.flat(name, Digest(FLAT))
        with pytest.raises(ValueError, match="not a store path"):
            StorePath("0" * 32, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("linux_6.12~rc1%2b_amd64.deb", "linux_6.12_rc1_2b_amd64.deb"),
        ("a+b?c=d", "a+b?c=d"),
        ("..hidden", "hidden"),
        ("ü b", "__b"),
        ("", ""),
    ],
)
def test_store_names(text: str, name: str) -> None:
    assert store_name(text) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", FlakeRef(".")),
        (".", FlakeRef(".")),
        ("./examples/hello", FlakeRef("./examples/hello")),
        ("/a b#x.y-z_'1", FlakeRef("/a b", "x.y-z_'1")),
        ("dir#", FlakeRef("dir")),
        ("#hello", FlakeRef(".", "hello")),
        ("path:", FlakeRef(".", copy=True)),
        ("path:/tmp/x#y", FlakeRef("/tmp/x", "y", copy=True)),
        ("path:/tmp/x?dir=a/b.c#y", FlakeRef("/tmp/x", "y", copy=True, subdirectory="a/b.c")),
        ("path:/tmp/x?dir=", FlakeRef("/tmp/x", copy=True)),
    ],
)
def test_flake_references(text: str, expected: FlakeRef) -> None:
    assert FlakeRef.parse(text) == expected
    assert FlakeRef.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("github:NixOS/nixpkgs", "git+file:///x", "https://host/x", "path:a:b", "a?dir=b", "path:a?rev=b", "a:b#c"),
        *("path:a?dir=../b", "path:a?dir=/b", "path:a?dir=b//c", "path:a?dir=.", "path:a?dir=b/", "path:a?dir=b&x=y"),
        *("a#b c", "a#1x", "a#.", "a#a..b", "a#a.", "a#b#c", 'a#"b"', "a#b\n", "a#${x}", "a#-x", "a#ü"),
    ],
)
def test_what_is_no_flake_reference_here(text: str) -> None:
    with pytest.raises(ValueError):
        FlakeRef.parse(text)


def test_subdirectories() -> None:
    assert all(map(is_subdirectory, ("", "a", "a/b", "a.b/c-d_e+f=1", "...")))
    assert not any(
        map(is_subdirectory, ("/", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a\n", "ü", "a?b", "a&b"))
    )


@pytest.mark.parametrize(("uid", "gid"), [(0, 1), (1, 0), (-1, 1), (2**32 - 1, 1), (1, 2**32)])
def test_nobody_is_root(uid: int, gid: int) -> None:
    assert User(1, 2**32 - 2).gid == 2**32 - 2
    with pytest.raises(ValueError, match="unprivileged"):
        User(uid, gid)


@pytest.mark.parametrize(
    "changes",
    [
        {"data_blocks": 0, "hash_offset": 0},
        {"data_blocks": -1, "hash_offset": -4096},
        {"hash_offset": 4096},
        {"salt": bytes(257)},
    ],
)
def test_a_hash_tree_follows_its_data(changes: dict[str, Any]) -> None:
    tree = Verity(Digest(FLAT), bytes(256), "", 2, 8192)
    with pytest.raises(ValueError):
        dataclasses.replace(tree, **changes)


def test_an_artifact_has_a_size() -> None:
    assert Artifact("kernel", Digest(FLAT), 0).size == 0
    with pytest.raises(ValueError, match="negative"):
        Artifact("kernel", Digest(FLAT), -1)
