"""Data disks in snapshots: what lies on one comes back as it was, under what unlocks it, or nothing does."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.data.setup import PreparedDisk, unlocking
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.guest_memory import BLOCK
from mvmnix.plan.data_disk import DataDisk
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import DataAttachment
from tests.descriptors import nothing_left_open
from tests.unit.launch.snapshots.kept import ID, PIECES, SIZE, STATE, Kept, saved_memory

MIB = 16
#: What lies on the disk, block by block: the last one too.
WRITTEN = ((0, b"\3" * BLOCK), (MIB * 16 * BLOCK - BLOCK, b"\4" * BLOCK))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Kept]:
    with Directory.create(str(tmp_path / "snapshots")) as directory:
        yield Kept(directory)


@pytest.fixture
def disk(here: Kept) -> Iterator[DataAttachment]:
    """The disk of a guest that stands still."""
    prepared = PreparedDisk.ready(DataDisk(MIB, "/data"), here.directory)
    for at, block in WRITTEN:
        prepared.write(at, block)
    assert isinstance(prepared.attachment, DataAttachment)
    with closing_disk(prepared):
        yield prepared.attachment


@contextmanager
def closing_disk(disk: PreparedDisk) -> Iterator[None]:
    try:
        yield
    finally:
        disk.release()


def test_what_lies_on_it_comes_back_in_a_file_of_its_own(here: Kept, disk: DataAttachment) -> None:
    claim = here.keep(disk=disk)
    with nothing_left_open(), here.snapshots.open(ID) as kept:
        guest = here.snapshots.unseal(kept, claim, here.directory)
        assert guest.disk is not None
        again = guest.disk.attachment
        assert isinstance(again, DataAttachment)
        with closing_disk(guest.disk), closing(os.fdopen(guest.memory, "rb")):
            assert (guest.state, tuple(guest_memory.blocks(guest.memory))) == (STATE, PIECES)
            assert tuple(guest_memory.blocks(again.file)) == WRITTEN
            assert unlocking(again) == unlocking(disk)
            status = os.fstat(again.file)
            assert (status.st_size, status.st_nlink, status.st_mode & 0o777) == (MIB << 20, 0, 0o600)
            assert status.st_blocks * 512 >= MIB << 20, "its room is taken"
            assert not os.path.samestat(status, os.fstat(disk.file))


def test_the_sealed_file_has_what_was_written_and_no_more(here: Kept, disk: DataAttachment) -> None:
    claim = here.keep(disk=disk)
    written = (len(PIECES) + len(WRITTEN)) * BLOCK
    assert written < claim.sealed_bytes < written + (1 << 19), "the header is 254 KiB"
    everything = b"".join(each.read_bytes() for each in here.path().iterdir())
    assert WRITTEN[0][1][:64] not in everything
    assert os.pread(disk.key, 64, 0) not in everything


def grown(disk: DataAttachment, memory: int) -> None:
    os.ftruncate(memory, SIZE + BLOCK)
    os.pwrite(memory, b"beyond", SIZE)
    os.ftruncate(disk.file, disk.size + BLOCK)
    os.pwrite(disk.file, b"beyond", disk.size)


def test_what_a_hypervisor_wrote_behind_their_ends_is_left_out(here: Kept, disk: DataAttachment) -> None:
    with saved_memory() as memory, here.snapshots.begin(ID) as writer:
        grown(disk, memory)
        for _ in writer.seal(STATE, memory, SIZE, disk):
            pass
        _, size = writer.sealed
    assert size == here.keep(disk=disk).sealed_bytes


@pytest.mark.parametrize("cut", [lambda disk: disk.header, lambda disk: disk.key])
def test_one_whose_header_or_key_was_cut_off(
    here: Kept, disk: DataAttachment, cut: Callable[[DataAttachment], int]
) -> None:
    os.ftruncate(cut(disk), 1)
    with saved_memory() as memory, here.snapshots.begin(ID) as writer, pytest.raises(ValueError, match="cut off"):
        next(writer.seal(STATE, memory, SIZE, disk))
    assert here.left() == []


def test_what_was_cut_off_is_not_sealed(here: Kept, disk: DataAttachment) -> None:
    for fd in (disk.file, None):
        with saved_memory() as memory, here.snapshots.begin(ID) as writer:
            os.ftruncate(memory if fd is None else fd, BLOCK + 1)
            with pytest.raises(ValueError, match="cut off"):
                deque(writer.seal(STATE, memory, SIZE, disk), maxlen=0)
    assert here.left() == []


def test_zeros_that_were_written_end_a_step_too(here: Kept) -> None:
    """However many a hypervisor wrote: its supervisor reads some of them, and then has its turn."""
    prepared = PreparedDisk.ready(DataDisk(MIB, "/data"), here.directory)
    assert isinstance(prepared.attachment, DataAttachment)
    with closing_disk(prepared):
        for at in range(0, MIB << 20, BLOCK):
            prepared.write(at, bytes(BLOCK))
        found = list(guest_memory.first_blocks(prepared.attachment.file, MIB << 20))
    assert [at // BLOCK for at, _ in found] == [99, 199]


def test_without_room_for_all_of_it_nothing_is_written(
    here: Kept, disk: DataAttachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs("/")
    scarce = os.statvfs_result((*room[:4], (48 << 20) // room.f_frsize, *room[5:10], room.f_fsid))
    monkeypatch.setattr(os, "fstatvfs", lambda _: scarce)
    here.keep()
    here.snapshots.remove(ID)
    with saved_memory() as memory, here.snapshots.begin(ID) as writer, pytest.raises(OSError, match="No space left"):
        next(writer.seal(STATE, memory, SIZE, disk))
    assert here.left() == []


@pytest.mark.parametrize("changes", [{"data_mib": 0}, {"data_mib": MIB - 1}], ids=str)
def test_a_statement_of_another_disk(here: Kept, disk: DataAttachment, changes: dict[str, Any]) -> None:
    claim = here.keep(disk=disk, **changes)
    with nothing_left_open(), here.snapshots.open(ID) as kept, pytest.raises(RefusedError) as caught:
        here.snapshots.unseal(kept, claim, here.directory)
    assert caught.value.codes == (ReasonCode.SNAPSHOT_DAMAGED,)


def test_a_disk_that_finds_no_room(here: Kept, disk: DataAttachment, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = here.keep(disk=disk)

    def full(_fd: int, _at: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with nothing_left_open(), here.snapshots.open(ID) as kept, pytest.raises(MvmnixError, match="finds no room"):
        here.snapshots.unseal(kept, claim, here.directory)
