"""Files that root's command line named are read by `mvm verify` once it is another user, who may not open them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.api import files, held_files
from mvmnix.api.verify import image
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME
from mvmnix.provenance.slsa.predicate import SBOM_NAME


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is this process's."""
    monkeypatch.setattr(held_files, "_files", {})
    monkeypatch.setattr(held_files, "_directories", set())


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file, held, and closed since."""
    (tmp_path / "image").mkdir()
    (tmp_path / "image/kernel").write_bytes(b"a kernel")
    descriptors = held_files.hold([str(tmp_path / "image")])
    (tmp_path / "image").chmod(0)
    yield tmp_path / "image"
    (tmp_path / "image").chmod(0o700)
    for fd in descriptors:
        os.close(fd)


def test_an_exported_image_is_what_is_looked_for_in_a_directory() -> None:
    names = {BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME, SBOM_NAME, "manifest.json", *image._FILES}
    assert set(held_files.EXPORTED) == names


def test_what_is_held_is_read(closed: Path) -> None:
    kernel = str(closed / "kernel")
    assert (files.is_directory(str(closed)), files.exists(kernel)) == (True, True)
    assert files.read(kernel, 100, "") == files.file_bytes(kernel, 100) == b"a kernel"
    assert files.blob(kernel).digest == Digest.of(b"a kernel")


def test_what_is_not_held_is_not(closed: Path) -> None:
    initrd = str(closed / "initrd")
    assert not files.exists(initrd)
    for read in (files.read, lambda path, limit, _: files.file_bytes(path, limit)):
        with pytest.raises(UsageError, match="can't be read"):
            read(initrd, 100, "")


def test_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regular files by the words that name them, once each, read from the beginning each time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app").write_bytes(b"bytes")
    (tmp_path / "app.sigstore.json").touch()
    (tmp_path / "image/kernel").mkdir(parents=True)
    (tmp_path / "image/rootfs").touch()
    (tmp_path / "image/shadow").touch()
    (tmp_path / "twice").touch()
    os.link(tmp_path / "twice", tmp_path / "again")
    (tmp_path / "link").symlink_to("app")
    (tmp_path / "to").symlink_to("image")
    os.mkfifo(tmp_path / "fifo")
    words = ["--key=app", "./app", "--", "image//", "link", "fifo", "to/rootfs", "nothing", "", "/dev/null", "\0"]
    words += ["twice", "image/../app.sigstore.json"]
    descriptors = held_files.hold(words)
    try:
        assert set(held_files._files) == {"app", "app.sigstore.json", "image/rootfs"}
        assert held_files.opened("to/../app") is None, "the kernel follows the link first"
        for _ in range(2):
            fd = held_files.opened("./app")
            assert fd is not None
            assert os.read(fd, 10) == b"bytes"
            os.close(fd)
        assert held_files.is_held_directory("image/")
        assert not held_files.is_held_directory("to")
        assert (held_files.is_held("app"), held_files.opened("link")) == (True, None)
    finally:
        for fd in descriptors:
            os.close(fd)
