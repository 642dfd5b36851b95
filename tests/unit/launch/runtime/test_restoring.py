"""What a machine that goes on from a snapshot needs: in which order that is asked for, and that its disk is there."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.data.setup import PreparedDisk, unlocking
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.launch.templates import guest_memory
from mvmnix.model import Verb
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.plan import Use
from mvmnix.vmm.port import DataAttachment
from tests.descriptors import nothing_left_open
from tests.unit.launch.house import House
from tests.unit.launch.saving import ARGV, GRANTED, here, host_of, kept, restored, running, say, told

__all__ = ["here", "told"]

DATA = DataDisk(16, "/tmp/data")
BLOCK = b"\5" * guest_memory.BLOCK


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Each data disk that is made: a descriptor of its own of the file, and what unlocks it."""
    found = list[tuple[int, bytes]]()
    init = PreparedDisk.__init__

    def kept_too(disk: PreparedDisk, attachment: DataAttachment) -> None:
        found.append((os.dup(attachment.file), unlocking(attachment)))
        init(disk, attachment)

    monkeypatch.setattr(PreparedDisk, "__init__", kept_too)
    return found


def test_one_with_a_data_disk_goes_on_with_what_lies_on_it(here: House, made: list[tuple[int, bytes]]) -> None:
    with running(here, data=DATA) as machine:
        os.pwrite(made[0][0], BLOCK, guest_memory.BLOCK)
        first = kept(machine)
        os.pwrite(made[0][0], BLOCK, 0)
        with restored(here, first) as other:
            assert say(other, "/bin/echo") == 0
            again = kept(other)
    with restored(here, again) as third:
        assert say(third, "/bin/echo") == 0
    assert [tuple(guest_memory.blocks(fd)) for fd, _ in made] == [
        ((0, BLOCK), (guest_memory.BLOCK, BLOCK)),
        ((guest_memory.BLOCK, BLOCK),),
        ((guest_memory.BLOCK, BLOCK),),
    ]
    assert len({unlocks for _, unlocks in made}) == 1
    for fd, _ in made:
        os.close(fd)


def test_nothing_of_a_disk_is_left_open(here: House) -> None:
    with running(here, data=DATA) as machine, restored(here, kept(machine)):
        pass  # the first one loads what stays
    host = host_of(here)
    with here.plan(*ARGV, verbs=GRANTED, data=DATA) as plan, nothing_left_open():
        with start_machine(plan, host) as machine:
            snapshot = kept(machine)
        with restored(here, snapshot, host):
            pass


def test_one_that_grants_no_snapshot_leaves_its_disk_to_the_hypervisor(here: House) -> None:
    with running(here, data=DATA, verbs=frozenset({Verb.EXEC})) as machine:
        assert machine._guest.files is None
        held = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
        assert [name for name in held if "memfd:data-" in name] == []


def forbidden(*_: object) -> Never:
    raise AssertionError("nothing is unsealed before")


def test_a_network_that_is_not_to_be_had_is_told_before_anything_is_unsealed(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> Never:
        raise refuse(ReasonCode.NETWORK_UNAVAILABLE, "the port 8080", "it is taken", "end what has it")

    with running(here) as machine:
        snapshot = kept(machine)
    monkeypatch.setattr("mvmnix.launch.runtime.restore.machine_network", taken)
    monkeypatch.setattr(Snapshots, "unseal", forbidden)
    with pytest.raises(RefusedError) as refused, restored(here, snapshot):
        pass
    assert refused.value.codes == (ReasonCode.NETWORK_UNAVAILABLE,)


def no_key() -> Never:
    raise refuse(ReasonCode.KEY_PERMISSIONS, "the sealing key", "others can read it", "chmod")


def test_a_sealing_key_that_is_another_one_is_told_as_that(here: House, told: dict[str, Any]) -> None:
    with running(here, **told) as machine:
        snapshot = kept(machine)
    host = host_of(here)
    host = replace(host, snapshots=Snapshots(here.directory("snapshots"), lambda: b"\1" * 32))
    with pytest.raises(RefusedError, match="its key doesn't open") as refused, restored(here, snapshot, host):
        pass
    assert refused.value.codes == (ReasonCode.SNAPSHOT_DAMAGED,)


def test_a_sealing_key_that_can_not_be_read_is_refused_before_the_nonce_is_spent(
    here: House, told: dict[str, Any]
) -> None:
    host = replace(host_of(here), snapshots=Snapshots(here.directory("snapshots"), no_key))
    with here.plan(*ARGV, verbs=GRANTED, **(told | {"use": Use.ONCE})) as plan:
        with pytest.raises(RefusedError) as refused:
            start_machine(plan, host)
        assert refused.value.codes == (ReasonCode.KEY_PERMISSIONS,)
        assert [record.kind for record in here.log()] == [RecordKind.REFUSAL]
        with start_machine(plan, host_of(here)) as machine:
            assert say(machine, "/bin/echo") == 0
