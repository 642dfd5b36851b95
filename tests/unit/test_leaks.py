"""The search for secrets finds what is planted on purpose, in each form, and nothing where nothing is."""

import base64
import gzip
import lzma
import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.machines.output_log import Output, OutputLog
from mvmnix.system.private_dirs import Directory
from tests.leaks import Leak, in_bytes, in_files

SECRET = b"hush/~planted+" + bytes(range(200, 216))
SECRETS = {"S": SECRET}


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


PLANTED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda it: it,
    "base64, aligned": base64.b64encode,
    "base64, one byte in": lambda it: base64.b64encode(b"x" + it + b"yz"),
    "base64, two bytes in": lambda it: base64.b64encode(b"xy" + it + b"z"),
    "base64 in lines": lambda it: base64.encodebytes(b"x" * 50 + it),
    "base64url": lambda it: base64.urlsafe_b64encode(b"x" + it),
    "hex": lambda it: it.hex().encode(),
    "upper-case hex": lambda it: it.hex().upper().encode(),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "gzip of base64": lambda it: gzip.compress(base64.b64encode(b"x" + it)),
    "zstd of gzip": lambda it: zstd(b"head" + gzip.compress(it)),
    "base64 between two others": lambda it: base64.b64encode(os.urandom(31) + it + os.urandom(30)),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_planted_is_found(plant: str, tmp_path: Path) -> None:
    data = os.urandom(5000) + PLANTED[plant](SECRET) + os.urandom(5000)
    assert list(in_bytes(SECRETS, data))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/log").write_bytes(data)
    assert list(in_files(SECRETS, [tmp_path], since=0))
    assert not list(in_files(SECRETS, [tmp_path], since=0, but=[tmp_path / "deep/log"]))
    assert not list(in_bytes({"another": os.urandom(20)}, data))


def test_names_and_targets_of_links_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / SECRET[:10].decode().replace("/", "-")).touch()
    (tmp_path / "link").symlink_to("hush-planted")
    found = list(in_files({"N": b"hush-~plan"[:10], "T": b"hush-planted"}, [tmp_path], since=0))
    assert {leak.where.partition(" ")[0] for leak in found} == {"N", "T"}


def test_what_is_older_is_not(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(SECRET)
    assert list(in_files(SECRETS, [tmp_path], since=time.time() + 60)) == []


def test_a_finding_says_where_and_how() -> None:
    assert list(in_bytes(SECRETS, b".." + SECRET)) == [Leak("S", "plain")]


def test_what_was_printed_in_two_pieces_is_found(tmp_path: Path) -> None:
    """gzip writes its header by itself: between both in the log there is a record's head."""
    secret = b"hush" * 10
    packed = gzip.compress(secret)
    with Directory.create(str(tmp_path / "machine")) as directory:
        log = OutputLog(directory, 4096)
        log.write(Output.STDOUT, packed[:10])
        log.write(Output.STDOUT, packed[10:])
        log.close()
    found = list(in_files({"S": secret}, [tmp_path], since=0))
    assert found == [Leak(f"S in {tmp_path / 'machine/output.log'}", "gzip: plain")]
