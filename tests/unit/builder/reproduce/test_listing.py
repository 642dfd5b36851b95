"""What differs between two file systems, and between two files of which nothing else is known."""

import pytest

from mvmnix.builder.reproduce import file_differences

ONE, TWO = "1" * 64, "2" * 64


def entries(*rows: tuple[str, str, str, str]) -> bytes:
    return b"".join(field.encode() + b"\0" for row in rows for field in row)


def hashes(**files: str) -> bytes:
    return b"".join(f"{digest}  ./{name}".encode() + b"\0" for name, digest in files.items())


def test_a_listing() -> None:
    found = file_differences.read(
        entries(
            ("d", "755", "", "./etc"),
            ("f", "644", "", "./date"),
            ("l", "777", "date", "./now"),
            ("p", "600", "", "./x"),
        ),
        hashes(date=ONE),
    )
    assert found == {
        "etc": "a directory of mode 755",
        "date": f"a file of mode 644, sha256:{ONE}",
        "now": "a link to date",
        "x": "something else of mode 600",
    }


def test_names_that_look_like_more_than_a_name() -> None:
    """Names end with NUL, so that none of them is taken for two, or for a digest."""
    name = f"a\n{TWO}  ./b\\"
    found = file_differences.read(entries(("f", "644", "", f"./{name}")), f"{ONE}  ./{name}".encode() + b"\0")
    assert found == {name: f"a file of mode 644, sha256:{ONE}"}
    assert file_differences.read(b"l\x00777\x00\xff\x00./\xfe\0", b"") == {r"\xfe": r"a link to \xff"}


@pytest.mark.parametrize(
    ("entries_", "hashes_"),
    [
        (b"f\x00644", b""),
        (b"f\x00644\0\0", b""),
        (b"", b"nothing\0"),
        (b"", b"ab  ./x\0"),
        (entries(("f", "644", "", "./x")), b""),
    ],
)
def test_what_is_no_listing(entries_: bytes, hashes_: bytes) -> None:
    with pytest.raises(ValueError, match=r"listing|digests|malformed digest line"):
        file_differences.read(entries_, hashes_)


def test_every_kind_of_difference_is_said() -> None:
    first = {"a": f"a file of mode 644, sha256:{ONE}", "b": "a link to x", "c": "a directory of mode 755", "same": "x"}
    second = {"a": f"a file of mode 644, sha256:{TWO}", "b": "a link to y", "d": "a directory of mode 755", "same": "x"}
    assert file_differences.compare_listings(first, second) == (
        "/a: other contents",
        "/b: a link to x, then a link to y",
        "/c: in the first alone",
        "/d: in the second alone",
    )
    assert file_differences.compare_listings(first, first) == ()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([b"a"], [b"b"], "1 of 1 blocks of 4096 bytes differ, the first at byte 0"),
        ([bytes(4096), b"x"], [bytes(4097)], "1 of 2 blocks of 4096 bytes differ, the first at byte 4096"),
        ([bytes(10_000)], [bytes(4096)], "2 of 3 blocks of 4096 bytes differ, the first at byte 4096"),
        ([b"a" * 3000] * 3, [b"a" * 8999 + b"b"], "1 of 3 blocks of 4096 bytes differ, the first at byte 8192"),
        ([], [b"x"], "1 of 1 blocks of 4096 bytes differ, the first at byte 0"),
    ],
)
def test_blocks(first: list[bytes], second: list[bytes], words: str) -> None:
    assert file_differences.blocks(first, second) == words
