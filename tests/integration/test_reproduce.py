"""What differs in two file systems, by fsck.erofs and diffoscope in the sandbox; the file systems are made here."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mvmnix.builder.reproduce import file_differences
from mvmnix.builder.reproduce.comparison import Difference
from mvmnix.digest import Digest
from mvmnix.model import Artifact
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.support.programs import trusted

pytestmark = pytest.mark.integration

type Two = Callable[[bytes, bytes, str], Difference]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "images")) as directory:
        yield Store(directory)


@pytest.fixture
def two(images: Store) -> Two:
    def keep(first: bytes, second: bytes, name: str = "rootfs") -> Difference:
        made = [Artifact(name, Digest.of(data), len(data)) for data in (first, second)]
        for artifact, data in zip(made, (first, second), strict=True):
            images.put(data, artifact.digest)
        return Difference(*made)

    return keep


def tree(path: Path, **files: str) -> Path:
    (path / "etc").mkdir(parents=True)
    (path / "etc/same").write_text("same" * 5000)
    (path / "closed").mkdir(mode=0o500)
    (path / "link").symlink_to(files.pop("link", "etc/same"))
    for name, text in files.items():
        (path / "etc" / name).write_text(text)
    return path


def erofs(path: Path) -> bytes:
    """As modules/guest/rootfs.nix makes it, with something behind it in place of the hash tree."""
    image = path.with_suffix(".erofs")
    uuid = "00000000-0000-0000-0000-000000000000"
    argv = ["mkfs.erofs", "--quiet", "-T0", "-U", uuid, "--all-root", "-x-1", "-zlz4", str(image), str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return image.read_bytes().ljust(1 << 16, b"\0") + bytes(8192)


def quiet(_report: bytes) -> None:
    """Where the machine has diffoscope, its report is nobody's business here."""


def test_files_in_it_are_named(tmp_path: Path, images: Store, two: Two) -> None:
    first = tree(tmp_path / "first", date="Monday", gone="x", link="etc/date")
    second = tree(tmp_path / "second", date="Tuesday", new="x")
    (second / "etc/same").chmod(0o755)
    said = file_differences.differences(two(erofs(first), erofs(second), "rootfs"), images, quiet)
    assert said.startswith("in it, /etc/date: other contents; /etc/gone: in the first alone; /etc/new: in the second")
    assert "/etc/same: a file of mode 644, then a file of mode 755" in said
    assert said.endswith("/link: a link to etc/date, then a link to etc/same")


def test_not_all_of_very_many_are_named(tmp_path: Path, images: Store, two: Two) -> None:
    first = tree(tmp_path / "first", **{f"n{number:02}": "x" for number in range(30)})
    said = file_differences.differences(two(erofs(first), erofs(tree(tmp_path / "second")), "rootfs"), images, quiet)
    assert said.count("alone") == file_differences.MOST_DIFFERENCES
    assert said.endswith(" and 10 more")


@pytest.mark.parametrize("name", ["rootfs", "kernel"])
def test_what_can_not_be_taken_apart_is_compared_by_blocks(images: Store, two: Two, name: str) -> None:
    said = file_differences.differences(two(bytes(8192), bytes(4096) + b"x" * 4096, name), images, quiet)
    assert said == "1 of 2 blocks of 4096 bytes differ, the first at byte 4096"


def test_the_same_files_laid_out_otherwise_are_compared_by_blocks(tmp_path: Path, images: Store, two: Two) -> None:
    image = erofs(tree(tmp_path / "first"))
    said = file_differences.differences(two(image, image[:-1] + b"x", "rootfs"), images, quiet)
    assert said.startswith("1 of ")


FAKE = r"""#!/bin/sh
while [ $# -gt 3 ]; do shift; done
echo "--- $2 +++ $3" > "$1"
id -u >> "$1"
ls /sys/class/net >> "$1" 2>&1
exit %d
"""


@pytest.mark.parametrize(
    ("status", "words"), [(1, "--- /first/kernel +++ /second/kernel\n65534\n"), (2, "says nothing")]
)
def test_diffoscopes_report_goes_to_the_log(
    tmp_path: Path, images: Store, two: Two, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    """A stand-in for it, which says where it runs: in the sandbox, as another uid, with the two files."""
    program = tmp_path / "bin/diffoscope"
    program.parent.mkdir()
    program.write_text(FAKE % status)
    program.chmod(0o755)
    monkeypatch.setattr(file_differences, "DIFFOSCOPE", replace(file_differences.DIFFOSCOPE, paths=(str(program),)))
    logged: list[bytes] = []
    with trusted(program):
        said = file_differences.differences(two(b"a", b"b", "kernel"), images, logged.append)
    assert words in b"".join(logged).decode()
    assert said.startswith("1 of 1 blocks")
