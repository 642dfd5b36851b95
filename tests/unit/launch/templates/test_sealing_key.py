"""The host's sealing key: made once, whoever comes first, its owner's alone, and of its size."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.templates.sealed_stream import KEY_BYTES
from mvmnix.launch.templates.sealing_key import FILE_NAME, read_or_make
from mvmnix.system.private_dirs import Directory


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "keys")) as made:
        yield made


def test_it_is_made_once_for_its_owner_alone(keys: Directory) -> None:
    key = read_or_make(keys)
    assert (len(key), read_or_make(keys)) == (KEY_BYTES, key)
    path = Path(keys.where(FILE_NAME))
    assert (path.stat().st_mode & 0o777, path.stat().st_nlink, path.read_bytes()) == (0o600, 1, key)
    assert os.listdir(keys.fd) == [FILE_NAME]  # noqa: PTH208 - a descriptor


def test_each_host_has_its_own(keys: Directory, tmp_path: Path) -> None:
    with Directory.create(str(tmp_path / "others")) as others:
        assert read_or_make(keys) != read_or_make(others)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_one_that_others_can_read_is_refused(keys: Directory, mode: int) -> None:
    read_or_make(keys)
    Path(keys.where(FILE_NAME)).chmod(mode)
    with pytest.raises(RefusedError) as caught:
        read_or_make(keys)
    assert set(caught.value.codes) & {ReasonCode.KEY_PERMISSIONS, ReasonCode.STATE_PERMISSIONS}


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1, 1000])
def test_one_of_another_size_is_refused(keys: Directory, size: int) -> None:
    keys.write_atomic(FILE_NAME, bytes(size))
    with pytest.raises(RefusedError) as caught:
        read_or_make(keys)
    assert caught.value.codes == (ReasonCode.KEY_MALFORMED,)


def test_processes_that_make_it_at_once_have_the_same_one(keys: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sees that there is none, and only the first one's is kept."""
    real, others = Directory.exists, list[bytes]()

    def exists(directory: Directory, name: str) -> bool:
        monkeypatch.setattr(Directory, "exists", real)
        found = real(directory, name)
        others.append(read_or_make(directory))  # as another process does just now
        return found

    monkeypatch.setattr(Directory, "exists", exists)
    assert [read_or_make(keys)] == others
    assert os.listdir(keys.fd) == [FILE_NAME]  # noqa: PTH208 - a descriptor
