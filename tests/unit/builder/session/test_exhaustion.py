"""A full disk, a want of memory and a failed build are told apart, by what the kernel says."""

import pytest

from mvmnix.builder.session import build_errors

HEAD = b"Filesystem           1024-blocks    Used Available Capacity Mounted on\n"
INODES = b"Filesystem              Inodes      Used Available Use% Mounted on\n"
ROOM = b"scratch                5242880 5100000    142880  97% /nix\n"
FILES = b"scratch                 754321    12000    742321   2% /nix\n"


def said(room: bytes = ROOM, files: bytes = FILES, killed: int = 0) -> bytes:
    return HEAD + room + INODES + files + b"nr_free_pages 123456\noom_kill %d\n" % killed


@pytest.mark.parametrize("nothing", [b"", b"\xff\xfe", HEAD, b"oom_kill x\n", b"oom_kill " + b"9" * 30])
def test_what_says_nothing_is_no_want(nothing: bytes) -> None:
    assert build_errors.exhaustion_error(nothing, "x", "log") is None


def test_a_file_system_without_a_bound_is_not_full() -> None:
    unbounded = b"none 0 0 0 0% /nix\n"
    assert build_errors.exhaustion_error(said(room=unbounded, files=unbounded), "x", "log") is None


@pytest.mark.parametrize(
    ("state", "words", "option"),
    [
        (said(room=ROOM.replace(b"   142880", b"        0")), "disk is full: there is room for 0 KiB", "--disk"),
        (said(files=FILES.replace(b"   742321", b"      131")), "disk is full: there is room for 131 files", "--disk"),
        (said(killed=3), "out of memory, and its kernel killed 3 processes", "--memory"),
    ],
)
def test_each_want_has_its_words_and_its_remedy(state: bytes, words: str, option: str) -> None:
    error = build_errors.exhaustion_error(state, "x#y", "cp: \x1b[31mcan't write")
    assert error is not None
    assert words in error.message
    assert "cp: ?[31mcan't write" in error.message, "the last words are there, and can't paint"
    assert option in error.hint


def test_a_build_that_failed_by_itself_is_neither() -> None:
    assert build_errors.exhaustion_error(said(), "x", "No space left on device") is None, "its words count for nothing"


def test_a_nix_that_had_no_room_has_tidied_up() -> None:
    last = "error: writing to file: No space left on device"
    error = build_errors.exhaustion_error(said(), "x#y", f"note: keeping build directory\n{last}\n")
    assert error is not None
    assert "disk is full" in error.message
    assert "--disk" in error.hint
    for log in (f"{last}\nerror: builder for 'x' failed with exit code 1\n", f"x> {last}", f"{last}\n  > {last}"):
        assert build_errors.exhaustion_error(said(), "x#y", log) is None, "a builder's words count for nothing"
