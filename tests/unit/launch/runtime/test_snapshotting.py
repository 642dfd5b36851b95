"""Snapshots of running machines, and machines that go on from them: by a hypervisor that does nothing, for real."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.agent.client import Channel
from mvmnix.launch.agent.frames import Thaw
from mvmnix.launch.control.messages import Exec, SnapshotKept
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.restore import restore_machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.launch.snapshots.store import Writer
from mvmnix.machines.ending import EndReason
from mvmnix.model import Verb
from mvmnix.plan.network import Network, parse_rules
from mvmnix.plan.plan import Use
from mvmnix.vmm.port import NetworkAttachment
from tests.descriptors import nothing_left_open
from tests.patience import EVENT_PATIENCE, SHORT
from tests.unit.launch.fake_hypervisor import Scenario
from tests.unit.launch.house import House, nowhere
from tests.unit.launch.played_network import PlayedNetwork
from tests.unit.launch.saving import (
    ARGV,
    GRANTED,
    here,
    host_of,
    kept,
    restored,
    running,
    save,
    say,
    taken,
    told,
    verified,
)

__all__ = ["here", "told"]

NETWORK = Network(parse_rules(["https://api.example.com"], []))


def kinds(here: House) -> list[tuple[RecordKind, str | None]]:
    return [(record.kind, record.machine) for record in here.log()]


def test_a_machine_goes_on_after_its_snapshot_and_another_one_from_it(here: House) -> None:
    with running(here) as machine:
        snapshot = kept(machine)
        assert say(machine, "/bin/echo", "it goes on") == 0
        with restored(here, snapshot) as other:
            assert say(other, "/bin/echo", "and so does this") == 0
            assert other.id != machine.id
            assert kinds(here)[-3:] == [
                (RecordKind.START, machine.id),
                (RecordKind.SNAPSHOT, machine.id),
                (RecordKind.START, other.id),
            ]
            begun = here.log()[-1].digests
            assert str(begun["snapshot"]) == snapshot.statement == str(here.log()[-2].digests["snapshot"])


def test_the_plans_command_goes_on_in_the_other_one(here: House) -> None:
    with running(here) as machine:
        machine._guest.channel.start_run(stdout=nowhere, stderr=nowhere)
        snapshot = kept(machine, ends=True)
        ended = machine.wait()
    assert ended.reason is EndReason.COOLED
    with restored(here, snapshot) as other:
        assert other.has_command
        claim = other._observations.snapshot
        assert claim is not None
        assert claim.id == snapshot.id


def test_who_waits_for_the_command_hears_how_it_goes_on(here: House) -> None:
    with running(here) as machine:
        command = machine._guest.channel.start_run(stdout=nowhere, stderr=nowhere)
        kept(machine, ends=True)
        with pytest.raises(MachineFailedError, match="was cooled before its command had ended") as failed:
            machine.finish(command)
        assert failed.value.hint == f"mvm thaw {machine.id} has it go on"


def test_one_that_was_restored_is_saved_again(here: House) -> None:
    with running(here) as machine:
        first = kept(machine, ends=True)
        machine.wait()
    with restored(here, first) as other:
        second = kept(other)
        with restored(here, second) as third:
            assert say(third, "/bin/echo") == 0
    host = host_of(here)
    with verified(here, host, second) as (result, _):
        assert (result.claim.parent, result.claim.machine) == (first.id, other.id)


def test_one_that_began_from_a_template_is_saved_too(here: House) -> None:
    template = save(here)
    with running(here) as machine:
        assert machine._observations.template == template.record
        with restored(here, kept(machine)) as other:
            assert say(other, "/bin/echo") == 0


def test_of_a_plan_for_once_one_machine_goes_on_at_a_time(here: House) -> None:
    with running(here, use=Use.ONCE) as machine:
        going = kept(machine)
        cooled = kept(machine, ends=True)
        machine.wait()
    with pytest.raises(RefusedError) as refused, restored(here, going):
        pass
    assert refused.value.codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)
    with restored(here, cooled) as other:
        again = kept(other, ends=True)
        other.wait()
    with pytest.raises(RefusedError) as refused, restored(here, cooled):
        pass
    assert refused.value.codes == (ReasonCode.REPLAY,)
    with restored(here, again) as third:
        assert say(third, "/bin/echo") == 0


@pytest.mark.parametrize(
    ("verbs", "changes", "code"),
    [
        (frozenset({Verb.EXEC}), {}, ReasonCode.VERB_NOT_GRANTED),
        (GRANTED, {"ports": (80,), "verbs": GRANTED | {Verb.STREAM}}, ReasonCode.SNAPSHOT_FORBIDDEN),
    ],
    ids=["not granted", "ports"],
)
def test_what_is_not_granted_or_can_not_be_is_refused_and_the_machine_goes_on(
    here: House, verbs: frozenset[Verb], changes: dict[str, Any], code: ReasonCode
) -> None:
    with running(here, **({"verbs": verbs} | changes)) as machine:
        with pytest.raises(RefusedError) as refused:
            machine.start_snapshot(lambda _: None, ends=False)
        assert refused.value.codes == (code,)
        assert (here.log()[-1].kind, here.log()[-1].reasons) == (RecordKind.REFUSAL, (code,))
        assert say(machine, "/bin/echo") == 0


def test_a_guest_that_knows_a_secret_is_saved_where_the_plan_says_so(here: House, told: dict[str, Any]) -> None:
    with running(here, **(told | {"snapshot_with_secrets": False})) as machine:
        with pytest.raises(RefusedError, match="told secrets") as refused:
            machine.start_snapshot(lambda _: None, ends=False)
        assert refused.value.codes == (ReasonCode.SNAPSHOT_FORBIDDEN,)
        assert machine._guest.files is None
    with running(here, **told) as machine:
        first = kept(machine)
        assert b"the first one" not in (here.path / "snapshots" / first.id / "snapshot.json").read_bytes()
    with restored(here, first) as other:
        assert say(other, "/bin/echo") == 0
        again = kept(other)
        with restored(here, again) as third:
            assert say(third, "/bin/echo") == 0


def test_what_it_prints_is_not_kept_in_the_clear_once_it_goes_on(here: House, told: dict[str, Any]) -> None:
    """Its run may have been an attached one, of which nothing was kept either."""
    with running(here, **told) as machine:
        snapshot = kept(machine)
    with restored(here, snapshot) as other:
        stdout, _ = other._observations.keep_outputs(nowhere, nowhere, attached=False)
        stdout(b"the first one")
    directory = here.path / "machines" / other.id
    assert [path for path in directory.iterdir() if b"the first one" in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("value", "code"),
    [("the second one", ReasonCode.SNAPSHOT_SECRETS), (None, ReasonCode.SECRET_UNAVAILABLE)],
    ids=["another one", "none"],
)
def test_no_machine_goes_on_with_a_secret_that_was_rotated(
    here: House, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, value: str | None, code: ReasonCode
) -> None:
    with running(here, **told) as machine:
        snapshot = kept(machine)
    if value is None:
        monkeypatch.delenv("TOKEN")
    else:
        monkeypatch.setenv("TOKEN", value)
    before = len(here.log())
    with pytest.raises(RefusedError) as refused, restored(here, snapshot):
        pass
    assert refused.value.codes == (code,)
    assert [(record.kind, record.reasons) for record in here.log()[before:]] == [(RecordKind.REFUSAL, (code,))]


def test_meanwhile_no_command_no_pause_and_no_other_snapshot_begins(here: House) -> None:
    outcome: list[SnapshotKept | MvmnixError] = []
    with running(here) as machine:
        machine.start_snapshot(outcome.append, ends=False)
        for ask in (
            lambda: machine.start_verb(Exec(("/bin/echo",)), stdout=nowhere, stderr=nowhere, stdin=None),
            lambda: machine.set_paused(True, lambda _: None),
            lambda: machine.start_snapshot(outcome.append, ends=False),
        ):
            with pytest.raises(UsageError, match="a snapshot of the machine is being taken"):
                ask()
        while not outcome:
            machine.loop.turn()
        assert isinstance(outcome[0], SnapshotKept)
        assert say(machine, "/bin/echo") == 0


def failing(error: OSError) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("step", ["seal", "keep"])
def test_a_full_disk_leaves_no_snapshot_and_the_guest_goes_on(
    here: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(Writer, step, failing(OSError(28, "No space left on device")))
    with running(here) as machine:
        outcome = taken(machine)
        assert isinstance(outcome, MvmnixError)
        assert "No space left" in outcome.message
        assert say(machine, "/bin/echo") == 0
        assert host_of(here).snapshots.list() == ()
        assert [*(here.path / "snapshots").glob(".*partial*")] == []


def test_a_hypervisor_that_can_not_save_lets_its_guest_go_on(here: House) -> None:
    with here.plan(*ARGV, verbs=GRANTED) as plan, start_machine(plan, host_of(here)) as machine:
        machine._guest.files.close()  # type: ignore[union-attr]
        machine._guest.files = None
        with pytest.raises(RefusedError, match="the hypervisor can't save its guest"):
            machine.start_snapshot(lambda _: None, ends=False)
        assert say(machine, "/bin/echo") == 0


def test_a_machine_that_is_stopped_meanwhile_ends_in_order_and_keeps_none(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome: list[SnapshotKept | MvmnixError] = []
    monkeypatch.setattr(Writer, "seal", lambda *_: itertools.repeat(1))
    with running(here) as machine:
        machine.start_snapshot(outcome.append, ends=False)
        while machine._snapshotting._writer is None:
            machine.loop.turn()
        ended = machine.stop()
    assert ended.reason is EndReason.STOPPED
    (error,) = outcome
    assert isinstance(error, MvmnixError)
    assert "has ended" in error.message
    assert host_of(here).snapshots.list() == ()


def test_a_damaged_one_is_refused_and_logged_and_nothing_starts(here: House) -> None:
    with running(here) as machine:
        snapshot = kept(machine)
    path = here.path / "snapshots" / snapshot.id / "memory.sealed"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    before = len(here.log())
    with pytest.raises(RefusedError) as refused, restored(here, snapshot):
        pass
    assert refused.value.codes == (ReasonCode.SNAPSHOT_DAMAGED,)
    assert [record.kind for record in here.log()[before:]] == [RecordKind.REFUSAL]


def test_a_guest_that_does_not_go_on_is_ended(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmnix.launch.runtime.boot._RESTORE", SHORT)
    with running(here) as machine:
        snapshot = kept(machine)
    host = host_of(here, restored=Scenario.UNRESTORED)
    with verified(here, host, snapshot) as (result, found), pytest.raises(MvmnixError):
        restore_machine(result, found, replace(host))
    assert here.log()[-1].kind is RecordKind.END


def test_nothing_is_left_open(here: House) -> None:
    with running(here) as machine, restored(here, kept(machine)):
        pass  # the first one loads what stays
    host = host_of(here)
    with here.plan(*ARGV, verbs=GRANTED) as plan, nothing_left_open():
        with start_machine(plan, host) as machine:
            snapshot = kept(machine)
        with restored(here, snapshot, host):
            pass


def test_a_machine_whose_plan_grants_none_has_no_memory_in_a_file(here: House) -> None:
    with running(here, verbs=frozenset({Verb.EXEC})) as machine:
        assert machine._guest.files is None
    with running(here) as machine:
        files = machine._guest.files
        assert files is not None
        assert os.fstat(files.memory).st_size == here.world.image.memory_mib << 20


@pytest.fixture
def played(here: House, monkeypatch: pytest.MonkeyPatch) -> list[PlayedNetwork]:
    """An image whose machines may be in a network, and the networks of those that start."""
    here.world.change_manifest(lambda value: value.update(network=True))
    here.world.sign_provenance()
    return PlayedNetwork.play(monkeypatch)


@pytest.fixture
def snapshot(here: House, played: list[PlayedNetwork]) -> SnapshotKept:
    """One of a machine with a network, the first of those that are played."""
    with running(here, network=NETWORK) as machine:
        return kept(machine)


def test_one_that_goes_on_from_a_snapshot_has_a_network_of_its_own(
    here: House, played: list[PlayedNetwork], snapshot: SnapshotKept
) -> None:
    with restored(here, snapshot) as other:
        first, second = played
        assert (first.calls[-1], second.calls) == ("close", ["start"])
        assert say(other, "/bin/echo") == 0
    assert second.calls[-1] == "close"


def test_its_commands_go_on_once_its_network_serves_and_not_before(
    here: House, played: list[PlayedNetwork], snapshot: SnapshotKept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: that is no stall."""
    PlayedNetwork.late = 10 * SHORT
    waiting = list[bool]()
    thaw = Channel.start_thaw

    def start_thaw(channel: Channel, frame: Thaw, done: Callable[[], None]) -> None:
        waiting.append(played[-1].is_starting)
        thaw(channel, frame, done)

    monkeypatch.setattr(Channel, "start_thaw", start_thaw)
    with restored(here, snapshot) as other:
        assert say(other, "/bin/echo") == 0
    assert waiting == [False]


def test_of_one_that_does_not_go_on_no_registers_are_kept(
    here: House, played: list[PlayedNetwork], snapshot: SnapshotKept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may hold what it was told before it was saved."""
    PlayedNetwork.late = 1000.0
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._WALL_FACTOR", 2 / EVENT_PATIENCE)
    with pytest.raises(GuestTimeoutError), restored(here, snapshot):
        pass
    (found,) = here.path.glob("machines/*/diagnosis-1.txt")
    evidence = found.read_bytes()
    assert b"CONFIG was sent: True" in evidence
    assert b"info lapic" in evidence
    assert b"registers" not in evidence
    assert "close" in played[1].calls


def test_a_verdict_that_comes_once_it_has_gone_on_ends_nothing(
    here: House, played: list[PlayedNetwork], snapshot: SnapshotKept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hypervisor is asked how its guest stands, which goes on before the answer is there."""
    PlayedNetwork.late = 10 * SHORT
    asked = list[Callable[[dict[str, str]], None]]()
    monkeypatch.setattr("mvmnix.vmm.boot_watchdog._WALL_FACTOR", 0.0)
    monkeypatch.setattr(Guest, "examine", lambda _, answered, *, registers: asked.append(answered))
    with restored(here, snapshot) as other:
        assert len(asked) == 1
        asked[0]({})
        assert say(other, "/bin/echo") == 0
    assert len(played) == 2
    assert not list(here.path.glob("machines/*/diagnosis-*"))


def test_a_network_that_can_not_be_had_leaves_nothing_open(
    here: House, played: list[PlayedNetwork], snapshot: SnapshotKept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(_: PlayedNetwork) -> NetworkAttachment:
        raise refuse(ReasonCode.NETWORK_UNAVAILABLE, "the network", "no namespace", "none")

    with restored(here, snapshot):
        pass  # the first one loads what stays
    monkeypatch.setattr(PlayedNetwork, "attachment", property(unavailable))
    host = host_of(here)
    with nothing_left_open(), pytest.raises(RefusedError) as refused, restored(here, snapshot, host):
        pass
    assert refused.value.codes == (ReasonCode.NETWORK_UNAVAILABLE,)
    assert {*played[-1].calls} == {"close"}
    assert here.log()[-1].kind is RecordKind.REFUSAL


def test_without_its_network_none_goes_on(here: House, played: list[PlayedNetwork], snapshot: SnapshotKept) -> None:
    PlayedNetwork.broken = True
    with pytest.raises(MvmnixError, match="no process can be started"), restored(here, snapshot):
        pass
    assert {*played[1].calls} == {"start", "close"}
    assert here.log()[-1].kind is RecordKind.END
