"""The file and the key of a data disk: of that size, without a name, and with the machine's descriptors gone."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.launch.data.setup import PreparedDisk
from mvmnix.launch.runtime.start import start_machine
from mvmnix.model import Verb
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.plan import Accelerator
from mvmnix.system.private_dirs import Directory
from mvmnix.vmm.port import DataAttachment
from tests.unit.launch.house import House

DISK = DataDisk(16, "/tmp/data")
SIZE = 16 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.create(str(tmp_path / "machines")) as made:
        yield made


def ready(directory: Directory) -> tuple[PreparedDisk, DataAttachment]:
    prepared = PreparedDisk.ready(DISK, directory)
    assert isinstance(prepared.attachment, DataAttachment)
    return prepared, prepared.attachment


def ours() -> list[str]:
    """What this process has open that could be a data disk's."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(fd.readlink()))
        except FileNotFoundError:  # of the listing itself
            continue
    return [name for name in found if "memfd:data-" in name or "/machines/#" in name]


def test_a_file_of_that_size_without_a_name(directory: Directory) -> None:
    prepared, data = ready(directory)
    status = os.fstat(data.file)
    assert (data.size, status.st_size, status.st_nlink, status.st_mode & 0o777) == (SIZE, SIZE, 0, 0o600)
    assert status.st_blocks * 512 >= SIZE, "its room is taken"
    assert os.listdir(directory.fd) == []  # noqa: PTH208 - a descriptor
    with pytest.raises(FileNotFoundError):  # nor is it given one (open(2), O_EXCL)
        os.link(f"/proc/self/fd/{data.file}", "named", dst_dir_fd=directory.fd, follow_symlinks=True)
    prepared.release()
    prepared.release()
    assert ours() == []


def test_each_has_a_key_of_its_own(directory: Directory) -> None:
    both = [ready(directory) for _ in range(2)]
    keys = {os.pread(data.key, 100, 0) for _, data in both}
    headers = [os.pread(data.header, 1 << 20, 0) for _, data in both]
    assert len(keys) == len(set(headers)) == 2
    assert {len(bytes.fromhex(key.decode())) for key in keys} == {32}
    for _, data in both:
        assert os.pread(data.file, SIZE, 0).count(0) == SIZE, "nothing of either is in the file"
    for prepared, _ in both:
        prepared.release()


def test_where_there_is_no_room(directory: Directory) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, usual[1]))
    try:
        with pytest.raises(MvmnixError, match="a data disk of 16 MiB finds no room"):
            ready(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert ours() == []


def test_where_a_file_needs_a_name() -> None:
    with Directory.open("/proc") as directory, pytest.raises(MvmnixError, match="no data disk can be made") as caught:
        PreparedDisk.ready(DISK, directory)
    assert caught.value.hint is not None
    assert "without a name" in caught.value.hint


def test_the_hypervisor_has_it_and_nobody_else(here: House) -> None:
    said = bytearray()
    exec_ = frozenset({Verb.EXEC})
    with here.plan(verbs=exec_, data=DISK) as plan, start_machine(plan, here.host()) as machine:
        assert ours() == []
        machine.exec(("descriptors",), environment={}, stdout=said.extend, stderr=said.extend, timeout=None)
        machine.stop()
    names = said.decode().splitlines()
    assert [len([name for name in names if it in name]) for it in ("/machines/#", "data-header", "data-key")] == [1] * 3


def test_a_start_that_is_refused_leaves_none(here: House) -> None:
    with here.plan(data=DISK, accelerator=Accelerator.KVM) as plan, pytest.raises(RefusedError) as caught:
        start_machine(plan, here.host())
    assert caught.value.codes == (ReasonCode.ACCELERATOR_UNAVAILABLE,)
    assert ours() == []
