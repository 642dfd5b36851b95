"""The store: what it hands out is what it hashed, and tampering is found when a file is read."""

import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache, Store, seal, sealed_memfd
from tests.descriptors import nothing_left_open

DATA = b"some bytes" * 1000
DIGEST = Digest.of(DATA)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield directory


@pytest.fixture
def store(directory: Directory) -> Store:
    return Store(directory)


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "sources").iterdir())


@pytest.mark.parametrize("content", [DATA, [DATA[:7], DATA[7:]]], ids=["bytes", "chunks"])
def test_put_and_read(store: Store, tmp_path: Path, content: bytes | list[bytes]) -> None:
    assert not store.has(DIGEST)
    assert store.put(content, DIGEST) == len(DATA)
    assert store.has(DIGEST)
    assert store.read(DIGEST, limit=len(DATA)) == DATA
    assert store.size(DIGEST) == len(DATA)
    assert files(tmp_path) == [DIGEST.hex]


def test_put_refuses_other_bytes_and_keeps_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refusal:
        store.put(DATA + b"x", DIGEST)
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert files(tmp_path) == []


def test_put_cleans_up_when_its_input_fails(store: Store, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.put(broken(), DIGEST)
    assert files(tmp_path) == []


@pytest.mark.parametrize("use", ["read", "size", "copy"])
@pytest.mark.parametrize("kind", [Store, Cache])
def test_a_changed_file_is_refused_whatever_its_time_says(
    directory: Directory, tmp_path: Path, use: str, kind: type[Store]
) -> None:
    """It stays, for it is evidence, unless it can be fetched again."""
    store = kind(directory)
    store.put(DATA, DIGEST)
    path = tmp_path / "sources" / DIGEST.hex
    times = path.stat()
    path.write_bytes(DATA[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(RefusedError) as refusal:
        match use:
            case "read":
                store.read(DIGEST, limit=1 << 20)
            case "size":
                store.size(DIGEST)
            case _:
                store.copy(DIGEST, lambda _: None)
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)
    assert store.has(DIGEST) == (kind is Store)
    assert not store.has(DIGEST) or path.read_bytes() == DATA[:-1] + b"!"


def test_a_changed_file_is_never_sealed(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(DATA[1:])
    with (tmp_path / "kernel").open("rb") as file, nothing_left_open(), pytest.raises(RefusedError) as refusal:
        sealed_memfd(file.fileno(), DIGEST, name="kernel")
    assert refusal.value.codes == (ReasonCode.ARTIFACT_MISMATCH,)


def test_an_absent_file_names_the_command(store: Store) -> None:
    with pytest.raises(MvmnixError) as error:
        store.read(DIGEST, limit=1)
    assert error.value.hint == "mvm pin fetch"


def test_read_stops_at_its_limit(store: Store) -> None:
    store.put(DATA, DIGEST)
    with pytest.raises(MvmnixError, match=f"more than {len(DATA) - 1} bytes"):
        store.read(DIGEST, limit=len(DATA) - 1)


def test_a_symbolic_link_in_the_store_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(DATA)
    (tmp_path / "sources" / DIGEST.hex).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError) as refusal:
        store.read(DIGEST, limit=1 << 20)
    assert refusal.value.codes == (ReasonCode.STATE_PERMISSIONS,)


def test_sealed_memory_keeps_the_hashed_bytes_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        file.seek(5)
        memory = sealed_memfd(file.fileno(), DIGEST, name="kernel")
        assert file.tell() == 5
    path.write_bytes(b"other")
    try:
        assert os.read(memory, len(DATA) + 1) == DATA
        assert not os.get_inheritable(memory)
        with pytest.raises(PermissionError):
            os.pwrite(memory, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(memory, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, 0)
    finally:
        os.close(memory)


def test_what_is_kept_is_listed_weighed_and_let_go(store: Store, tmp_path: Path) -> None:
    other = Digest.of(b"other")
    for data in (DATA, b"other"):
        store.put(data, Digest.of(data))
    (tmp_path / "sources" / "note").write_bytes(b"no digest")
    (tmp_path / "sources" / f"{DIGEST.hex}x").write_bytes(b"no digest")
    assert store.digests() == tuple(sorted((DIGEST, other)))
    assert [store.weight(digest) for digest in (DIGEST, other)] == [len(DATA), 5]
    store.remove(other)
    store.remove(other)
    assert store.digests() == (DIGEST,)
    with pytest.raises(MvmnixError, match="is not there"):
        store.weight(other)


def test_a_sweep_leaves_what_is_being_received(store: Store, tmp_path: Path) -> None:
    incoming = store.receive()
    incoming.write(DATA)
    assert store.sweep() == {}
    (name,) = files(tmp_path)
    assert name.startswith(".incoming.")
    incoming.close()
    assert incoming.keep() == DIGEST
    incoming.discard()
    assert (files(tmp_path), store.sweep()) == ([DIGEST.hex], {})


def test_what_is_kept_is_on_the_disk_before_it_has_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[list[str]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(files(tmp_path))
        real(fd)

    incoming = store.receive()
    incoming.write(DATA)
    monkeypatch.setattr(os, "fsync", fsync)
    incoming.keep()
    incoming.discard()
    (before, *_), after = synced[0], synced[-1]
    assert before.startswith(".incoming.")
    assert after == [DIGEST.hex], "the directory is made durable too"


def test_a_sweep_leaves_what_is_being_put(store: Store, tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        yield DATA[:9]
        assert store.sweep() == {}
        yield DATA[9:]

    assert store.put(content(), DIGEST) == len(DATA)
    assert files(tmp_path) == [DIGEST.hex]


KILLED = """
import sys
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
incoming = Store(Directory.open(sys.argv[1])).receive()
incoming.write(b"half of an image")
print("received", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_was_receiving_is_swept(store: Store, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "sources")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"received\n"
        (name,) = files(tmp_path)
        assert store.sweep() == {}
        process.kill()
    assert store.sweep(remove=False) == {name: len(b"half of an image")}
    assert files(tmp_path) == [name]
    assert store.sweep() == {name: len(b"half of an image")}
    assert files(tmp_path) == []


def test_memory_whose_pages_are_in_use_is_sealed_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    memory = os.memfd_create("busy", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096)
    mapped = mmap.mmap(memory, 4096)

    def unmap(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            mapped.close()

    monkeypatch.setattr("mvmnix.system.store.time.sleep", unmap)
    seal(memory, fcntl.F_SEAL_WRITE)
    assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) == fcntl.F_SEAL_WRITE
    os.close(memory)
    assert len(waited) == 3


def test_memory_that_somebody_goes_on_writing_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("mvmnix.system.store.time.sleep", waited.append)
    memory = os.memfd_create("busy", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096)
    with mmap.mmap(memory, 4096), pytest.raises(OSError, match="busy"):
        seal(memory, fcntl.F_SEAL_WRITE)
    os.close(memory)
    assert 1 < sum(waited) < 10


def test_what_cannot_be_sealed_at_all_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.system.store.time.sleep", pytest.fail)
    memory = os.memfd_create("never")
    with pytest.raises(PermissionError):
        seal(memory, fcntl.F_SEAL_WRITE)
    os.close(memory)
