"""The archive of an image, from the real tar; what is refused besides is in tests/hostile/test_archive.py."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.archive import ArchiveReader
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.model import StorePath
from tests.fakes import ustar

FILES = {"kernel": b"k" * 513, "initrd": b"", "rootfs": b"r" * 10_240, "manifest.json": b"{}"}


class Kept:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.data += data

    def close(self) -> None:
        self.closed = True


def take(stream: bytes, limits: dict[str, int] | None = None, step: int = 777) -> dict[str, bytes]:
    kept: dict[str, Kept] = {}

    def receive(name: str) -> Kept:
        return kept.setdefault(name, Kept())

    reader = ArchiveReader(dict.fromkeys(FILES, 1 << 20) if limits is None else limits, receive)
    for start in range(0, len(stream), step):
        reader.write(stream[start : start + step])
    reader.close()
    assert all(file.closed for file in kept.values())
    return {name: file.data for name, file in kept.items()}


def refused(stream: bytes, limits: dict[str, int] | None = None) -> str:
    with pytest.raises(RefusedError) as refusal:
        take(stream, limits)
    assert refusal.value.codes == (ReasonCode.OUTPUT_MALFORMED,)
    return refusal.value.reasons[0].why


def tar(where: Path, *arguments: str) -> bytes:
    return subprocess.run(["tar", *arguments], cwd=where, check=True, capture_output=True).stdout


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_what_the_builder_s_tar_writes(output: Path, step: int) -> None:
    argv = list(nix_commands.archive(StorePath("0" * 32, "x"), tuple(FILES)))
    argv = [f"--directory={output}" if word.startswith("--directory") else word for word in argv[1:]]
    stream = tar(output, *argv)
    assert take(stream, step=step) == FILES
    (output / "again").mkdir()
    assert tar(output, *argv) == stream, "the same files, the same archive"


def test_the_order_does_not_matter() -> None:
    assert take(ustar(dict(reversed(FILES.items())))) == FILES


def _hard_link(path: Path) -> None:
    path.hardlink_to(path.with_name("rootfs"))


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("initrd"), _hard_link, os.mkfifo, Path.mkdir])
def test_what_is_no_plain_file_is_refused(output: Path, make: Callable[[Path], None]) -> None:
    (output / "kernel").unlink()
    make(output / "kernel")
    refused(tar(output, "-c", "--format=ustar", *reversed(FILES)))


@pytest.mark.parametrize(
    "arguments", [("--format=gnu",), ("--format=pax",), ("--format=v7",), ("--format=ustar", "-z")]
)
def test_other_formats_are_refused(output: Path, arguments: tuple[str, ...]) -> None:
    refused(tar(output, "-c", *arguments, *FILES))


@pytest.mark.parametrize(
    ("stream", "limits", "why"),
    [
        (ustar(FILES), {"kernel": 1}, "'kernel' is larger than allowed: 513 bytes"),
        (ustar(FILES), {"kernel": 513}, "'initrd' is not expected"),
        (ustar({"kernel": b"x"}) + ustar({"kernel": b"x"}), {"kernel": 1}, "something follows its end"),
        (ustar({"./kernel": b"x"}), None, "'./kernel' is not expected"),
        (ustar({}), None, "it lacks initrd, kernel, manifest.json, rootfs"),
        (ustar(FILES)[:2000], None, "it ends in the middle of a file"),
        (ustar(FILES)[:700], None, "it ends in the middle of a file"),
        (b"", None, "it ends in the middle of a file"),
    ],
)
def test_reasons(stream: bytes, limits: dict[str, int] | None, why: str) -> None:
    assert why in refused(stream, limits)
