"""Files of a sandbox, on both faces: contents, trees, and how the guest's failures are told."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvmnix.sdk import errors
from tests.unit.cli.machines import kinds
from tests.unit.cli.station import Station
from tests.unit.sdk.faces import Face, on_both

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@on_both
async def test_contents(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box:
        assert await box.files.read("/hello") == b"hello"
        assert await box.files.read_text("/hello", encoding="ascii") == "hello"
        await box.files.write("/tmp/in", bytes(3_000_000))
        await box.files.write_text("/tmp/in", "grüße", mode=0o600)
    assert kinds(settled).count("copy") == 4


@on_both
async def test_a_file_that_is_too_large(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(errors.OutputLimitExceeded, match="has 5 bytes, and 4 are the limit"):
            await box.files.read("/hello", limit=4)
        assert await box.files.read("/hello", limit=5) == b"hello"


@on_both
async def test_what_the_guest_cannot_do(face: Face, guest: str, settled: Station) -> None:
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(OSError, match="no such file") as failed:
            await box.files.read("/nosuch")
        assert isinstance(failed.value, errors.FileFailed)
        assert (failed.value.errno, failed.value.filename) == (errno.EIO, "/nosuch")
        with pytest.raises(IsADirectoryError, match="it is a directory"):
            await box.files.read("/tree")
        with pytest.raises(errors.PolicyRefused, match="copy-refused"):
            await box.files.download("/evil", settled.path)
        with pytest.raises(errors.InvalidArgument, match="more than the permissions of a file"):
            await box.files.write("/tmp/in", b"", mode=0o4755)


@on_both
async def test_trees(face: Face, guest: str, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up/a").write_bytes(bytes(2_500_000))
    (tmp_path / "up/link").symlink_to("a")
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(errors.PolicyRefused, match="symbolic link, and those are not copied; leave_out=True"):
            await box.files.upload(tmp_path / "up", "/tmp")
        assert await box.files.upload(tmp_path / "up", "/tmp", leave_out=True) == [str(tmp_path / "up/link")]
        with pytest.raises(errors.PolicyRefused, match="limit_mib= allows more"):
            await box.files.upload(tmp_path / "up/a", "/tmp", limit_mib=1)
        with pytest.raises(errors.PolicyRefused, match="more than 0 bytes; limit_mib= allows more"):
            await box.files.download("/hello", tmp_path / "small", limit_mib=0)
        with pytest.raises(errors.PolicyRefused, match="those are not copied; leave_out=True"):
            await box.files.download("/tree", tmp_path)
        assert not (tmp_path / "tree").exists()
        assert len(await box.files.download("/tree", tmp_path, leave_out=True)) == 1
        assert (tmp_path / "tree/f").read_bytes() == b"x"
        await box.files.download("/hello", tmp_path / "new")
        with pytest.raises(errors.InvalidArgument, match="is there already"):
            await box.files.download("/hello", tmp_path / "new", replace=False)
        with pytest.raises(errors.InvalidArgument, match="No such file"):
            await box.files.upload(tmp_path / "nosuch", "/tmp")


@on_both
async def test_without_the_verb_nothing_is_sent(face: Face, guest: str, tmp_path: Path, settled: Station) -> None:
    async with face.Sandbox.run(guest, verbs=["exec"]) as box:
        calls: list[Callable[[], Any]] = [
            lambda: box.files.read("/hello"),
            lambda: box.files.write("/hello", b""),
            lambda: box.files.upload(tmp_path, "/tmp"),
            lambda: box.files.download("/hello", tmp_path / "new"),
        ]
        for call in calls:
            with pytest.raises(errors.NotGranted, match="grants exec"):
                await call()
    assert not (tmp_path / "new").exists()
    assert kinds(settled).count("copy") == kinds(settled).count("refusal") == 0


@on_both
async def test_operations(face: Face, guest: str, settled: Station) -> None:
    root = settled.path / "guest"
    async with face.Sandbox.run(guest) as box:
        await box.files.mkdir("/tmp/a/b", parents=True)
        assert (root / "tmp/a/b").is_dir()
        (root / "tmp/a/file").write_bytes(b"12345")
        (root / "tmp/a/link").symlink_to("nowhere")
        listed = await box.files.list("/tmp/a")
        assert [(entry.name, entry.kind) for entry in listed] == [
            ("b", "directory"),
            ("file", "file"),
            ("link", "link"),
        ]
        assert (await box.files.stat("/tmp/a/file")).size == 5
        assert await box.files.exists("/tmp/a/link")
        for path in ("/tmp/nosuch", "/tmp/a/file/below"):
            assert not await box.files.exists(path)
        await box.files.rename("/tmp/a/file", "/tmp/a/new")
        assert (root / "tmp/a/new").read_bytes() == b"12345"
        await box.files.remove("/tmp/a/link")
        with pytest.raises(OSError, match="not empty") as failed:
            await box.files.remove("/tmp/a")
        assert failed.value.errno == errno.ENOTEMPTY
        await box.files.remove("/tmp/a", recursive=True)
        assert not (root / "tmp/a").exists()
    assert kinds(settled).count("copy") == 10


FAILURES = [
    (lambda files: files.list("/nosuch"), FileNotFoundError, errors.FileNotFound),
    (lambda files: files.stat("/nosuch"), FileNotFoundError, errors.FileNotFound),
    (lambda files: files.mkdir("/tmp"), FileExistsError, errors.FileExists),
    (lambda files: files.list("/tmp/file"), NotADirectoryError, errors.FileNotDirectory),
    (lambda files: files.rename("/tmp/file", "/tmp/directory"), IsADirectoryError, errors.FileIsDirectory),
    (lambda files: files.rename("/tmp/file", ""), ValueError, errors.InvalidArgument),
    (lambda files: files.stat("/tmp\0"), ValueError, errors.InvalidArgument),
    (lambda files: files.read(""), ValueError, errors.InvalidArgument),
    (lambda files: files.write("/" * 4097, b""), ValueError, errors.InvalidArgument),
]


@pytest.mark.parametrize(("call", "kind", "own"), FAILURES)
@on_both
async def test_operations_that_fail(
    face: Face, guest: str, settled: Station, call: Callable[[Any], Any], kind: type[Exception], own: type[Exception]
) -> None:
    (settled.path / "guest/tmp/file").write_bytes(b"")
    (settled.path / "guest/tmp/directory").mkdir()
    async with face.Sandbox.run(guest) as box:
        with pytest.raises(kind) as failed:
            await call(box.files)
        assert isinstance(failed.value, own)


@on_both
async def test_operations_take_the_verb(face: Face, guest: str) -> None:
    async with face.Sandbox.run(guest, verbs=["exec"]) as box:
        with pytest.raises(errors.NotGranted, match="grants exec"):
            await box.files.list("/")
