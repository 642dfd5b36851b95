"""What a guest says is kept up to a bound, and shown escaped."""

import os
from pathlib import Path

from mvmnix.machines.console_log import BoundedLog


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)


def test_all_is_kept_below_the_limit(tmp_path: Path) -> None:
    log = BoundedLog(opened(tmp_path / "log"), limit=100)
    log.write(b"one\n")
    log.write(b"two\n")
    log.close()
    log.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    assert log.seen == 8


def test_a_flood_ends_in_one_marker(tmp_path: Path) -> None:
    log = BoundedLog(opened(tmp_path / "log"), limit=100)
    for _ in range(1000):
        log.write(b"x" * 33)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 100 + b"\n[mvm: only the first 100 bytes are kept]\n"
    assert log.seen == 33000


def test_a_full_disk_does_not_end_the_guest() -> None:
    log = BoundedLog(os.open("/dev/full", os.O_WRONLY), limit=100)
    log.write(b"lost")
    log.write(b"lost too")
    log.close()
    assert log.seen == 12


def test_last_lines_are_escaped(tmp_path: Path) -> None:
    log = BoundedLog(opened(tmp_path / "log"), limit=10)
    log.write(b"first\r\n\r\n\x1b[31mKernel panic\x07\r\n")
    assert log.last_lines(1) == ("\\u001b[31mKernel panic\\u0007",)
    assert log.last_lines() == ("first", "\\u001b[31mKernel panic\\u0007")
    log.close()
