"""The store: what it hands out is what it hashed, and tampering is found when a file is read."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import Digest
from mvmnix.state import Directory
from mvmnix.store import Store, sealed_memfd

DATA = b"some bytes" * 1000
DIGEST = Digest.of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield Store(directory)


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
def test_a_changed_file_is_refused_and_removed_whatever_its_time_says(store: Store, tmp_path: Path, use: str) -> None:
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
    assert not store.has(DIGEST)


def test_a_changed_file_is_never_sealed(store: Store, tmp_path: Path) -> None:
    store.put(DATA, DIGEST)
    (tmp_path / "sources" / DIGEST.hex).write_bytes(DATA[1:])
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RefusedError) as refusal:
        store.sealed(DIGEST)
    assert refusal.value.codes == (ReasonCode.ARTIFACT_MISMATCH,)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


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
