"""Templates and the machines that start from them, with a hypervisor that saves and restores, without a machine."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, MvmnixError, UsageError
from mvmnix.launch.agent.frames import PROTOCOL_VERSION
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime import warm
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.save_template import save_template
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.warm import template_command, template_key
from mvmnix.launch.shares.image import ShareImage
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.store import NoTemplateError, Templates
from mvmnix.launch.templates.template import NOTHING_HELD
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt
from mvmnix.plan.data_disk import DataDisk
from mvmnix.plan.network import Action, Network, NetworkRule
from mvmnix.plan.plan import Placeholders, Start
from mvmnix.plan.secret_reference import SecretReference, SecretTarget
from mvmnix.plan.share import Share, ShareKind
from mvmnix.system.store import is_sealed
from mvmnix.vmm.boot_watchdog import StallReason
from mvmnix.vmm.port import (
    Acceleration,
    Attachment,
    DataAttachment,
    Invocation,
    LaunchSpec,
    MemoryBackend,
    PlaceholderDisk,
)
from mvmnix.vmm.tsc import TscClock
from tests.descriptors import nothing_left_open
from tests.patience import SHORT
from tests.unit.launch.fake_guest import AGENT
from tests.unit.launch.fake_hypervisor import MEMORY, STATE, FakeHypervisor, Scenario
from tests.unit.launch.house import House, nowhere
from tests.unit.launch.saving import KHZ, POLICY, here, host_of, save, spec_of, template_plan

__all__ = ["here"]


def run(here: House, host: Host, **changes: Any) -> Receipt:
    """Run a machine to its end; its receipt."""
    before = {receipt.observed.machine for receipt in here.receipts()}
    with here.plan("/bin/echo", "x", **changes) as plan, start_machine(plan, host) as machine:
        assert machine.run(stdout=nowhere, stderr=nowhere).exit_code == 0
    (receipt,) = (it for it in here.receipts() if it.observed.machine not in before)
    return receipt


def kinds(here: House) -> list[tuple[RecordKind, tuple[str, ...]]]:
    return [(record.kind, record.reasons) for record in here.log()]


def test_a_saved_machine_has_one_start_one_end_and_a_receipt(here: House) -> None:
    host = host_of(here)
    with template_plan(here) as plan:
        ended = save_template(plan, host)
        digest = plan.digest
    begin, end = here.log()
    assert (begin.kind, end.kind, end.reasons) == (RecordKind.START, RecordKind.END, (EndReason.SAVED,))
    assert begin.machine == end.machine
    assert "template" not in begin.digests, "it boots itself"
    (receipt,) = here.receipts()
    assert (receipt.observed.reason, receipt.observed.template, receipt.reported) == (EndReason.SAVED, None, None)
    assert ended.reason is EndReason.SAVED
    (kept,) = host.templates.list()
    assert (kept.record.machine, kept.record.plan, kept.record.policy) == (begin.machine, digest, POLICY)
    assert (kept.record.hello.agent, kept.record.hello.version) == (AGENT, PROTOCOL_VERSION)
    assert kept.record.tsc_khz == KHZ


def test_what_is_kept_is_what_its_hypervisor_left(here: House) -> None:
    save(here)
    host = host_of(here)
    with here.plan() as plan, closing(host.templates.find(key_of(plan, host))) as found:
        assert os.pread(found.memory, len(MEMORY), 0) == MEMORY
        assert os.read(found.state, 1000) == STATE
        assert len(tuple(guest_memory.blocks(found.memory))) == 1


def test_nothing_is_left_open_of_a_template_that_was_made(here: House) -> None:
    save(here)  # the first one loads what stays
    host = host_of(here)
    with template_plan(here) as plan, nothing_left_open():
        save_template(plan, host)


def test_a_machine_starts_from_it_and_the_log_and_its_receipt_say_so(here: House) -> None:
    kept = save(here)
    for _ in range(2):
        receipt = run(here, host_of(here))
        assert receipt.observed.template == kept.record.machine
        begin, end = here.log()[-2:]
        assert (begin.kind, begin.digests["template"]) == (RecordKind.START, kept.record.key)
        assert (end.kind, end.reasons) == (RecordKind.END, ())
    assert not [notice for notice in here.notices if "once more" in notice]


@pytest.mark.parametrize("is_full", [False, True])
def test_what_is_of_no_use_goes_when_one_was_kept_or_could_not_be(
    here: House, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    host = host_of(here)
    useless = Path(host.templates._directory.where("0" * 64 + ".template"))
    useless.write_bytes(b"no template")
    useless.chmod(0o600)

    def keep(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with template_plan(here) as plan:
        if is_full:
            monkeypatch.setattr(Templates, "keep", keep)
            with pytest.raises(OSError, match="No space"):
                save_template(plan, host)
        else:
            save_template(plan, host)
    assert not useless.exists()
    assert len(host.templates.list()) == int(not is_full)


def test_another_hypervisor_saves_none(here: House) -> None:
    host = here.host()
    with template_plan(here) as plan, pytest.raises(UsageError, match="the hypervisor can't save guests"):
        save_template(plan, host)
    assert here.log() == []
    save(here)
    assert run(here, here.host()).observed.template is None


@pytest.mark.parametrize(
    "changes",
    [{"vcpus": 2}, {"memory_mib": 300}, {"start": Start.COLD}],
    ids=str,
)
def test_a_machine_of_another_shape_boots(here: House, changes: dict[str, Any]) -> None:
    save(here)
    with here.plan(**changes) as plan:
        host = host_of(here)
        with pytest.raises(NoTemplateError):
            warm.warm_spec(plan, host, spec_of(plan))
    assert len(host.templates.list()) == 1


def test_where_the_counter_has_another_frequency_a_machine_boots(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here)
    monkeypatch.setattr(TscClock, "khz", lambda _: KHZ + KHZ // 200)
    assert run(here, host_of(here)).observed.template is None
    monkeypatch.setattr(TscClock, "khz", lambda _: KHZ + KHZ // 400)
    assert run(here, host_of(here)).observed.template is not None


def test_where_the_policy_lets_none_start_warm(here: House) -> None:
    save(here)
    directory = here.directory("templates")
    templates = Templates(directory, lambda: bytes(32), POLICY, NOTHING_HELD, are_allowed=False)
    assert run(here, replace(host_of(here), templates=templates)).observed.template is None


def key_of(plan: VerifiedPlan, host: Host) -> Any:
    return template_key(plan, host, spec_of(plan))


def test_a_plan_that_demands_a_cold_start_has_no_key(here: House) -> None:
    with here.plan(start=Start.COLD) as plan, pytest.raises(NoTemplateError, match="the plan demands a cold start"):
        key_of(plan, host_of(here))


IMAGES = tuple(Attachment(f"share{number}", 20 + number, ShareKind.EROFS) for number in range(2))
SERVED = Attachment("share2", 22, ShareKind.VIRTIOFS)


def test_the_key_counts_disks_and_no_more(here: House) -> None:
    with here.plan() as plan:
        host, found = host_of(here), list[tuple[int, bool]]()
        for images in (IMAGES[:0], IMAGES[:1], IMAGES):
            for data in (None, DataAttachment(30, 31, 32, 1 << 24)):
                key = template_key(plan, host, spec_of(plan, shares=images, data=data))
                found.append((key.images, key.data))
                stand_in = None if data is None else PlaceholderDisk(33)
                others = tuple(replace(image, descriptor=40) for image in images)
                assert template_key(plan, host, spec_of(plan, shares=others, data=stand_in)) == key
        assert found == [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)]


def test_the_command_that_makes_one_has_all_of_the_shape(here: House) -> None:
    with here.plan() as plan:
        bare, name = spec_of(plan), f"mvm warm image:{plan.plan.image} --vcpus {plan.plan.vcpus} --memory "
        assert template_command(plan.plan, bare) == f"{name}{plan.plan.memory_mib}M"
        full = spec_of(plan, shares=IMAGES, data=DataAttachment(30, 31, 32, 1 << 24), vcpus=3, memory_mib=300)
        networked = replace(plan.plan, network=Network((NetworkRule("all", Action.DENY, "*", None, None),)))
        assert template_command(networked, full).endswith(" --vcpus 3 --memory 300M --network --shares 2 --data")


@pytest.mark.parametrize("shares", [(SERVED,), (*IMAGES, SERVED)])
def test_a_machine_with_a_share_that_is_served_starts_cold(here: House, shares: tuple[Attachment, ...]) -> None:
    with here.plan() as plan, pytest.raises(NoTemplateError, match="a machine with a share that is served starts cold"):
        template_key(plan, host_of(here), spec_of(plan, shares=shares, memory=MemoryBackend(23)))


@pytest.fixture
def shared(here: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Share, Share]:
    """Two directories that a plan may share; their images are made without mkfs.erofs."""

    def image(*_: object) -> ShareImage:
        return ShareImage(guest_memory.placeholder_disk(), __file__, Digest.of(b""))

    monkeypatch.setattr("mvmnix.launch.shares.setup.make_share_image", image)
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = (Share(str(tmp_path / name), f"/tmp/{name}") for name in "ab")
    return first, second


def test_a_machine_with_disks_starts_from_a_template_with_as_many(here: House, shared: tuple[Share, Share]) -> None:
    data = DataDisk(16, "/tmp/data")
    bare, kept = save(here), save(here, placeholders=Placeholders(2, data=True))
    receipt = run(here, host_of(here), shares=shared, data=data)
    assert receipt.observed.template == kept.record.machine
    assert [it.kind for it in receipt.observed.shares] == [ShareKind.EROFS] * 2
    assert run(here, host_of(here)).observed.template == bare.record.machine
    for changes in ({"shares": shared}, {"shares": shared[:1], "data": data}, {"data": data}):
        assert run(here, host_of(here), **changes).observed.template is None


def test_the_machine_of_a_template_has_as_many_disks_as_its_plan_says(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = list[LaunchSpec]()
    invocation = FakeHypervisor.invocation

    def noted(hypervisor: FakeHypervisor, spec: LaunchSpec) -> Invocation:
        specs.append(spec)
        return invocation(hypervisor, spec)

    monkeypatch.setattr(FakeHypervisor, "invocation", noted)
    save(here, placeholders=Placeholders(2, data=True))
    (spec,) = specs
    assert [(share.tag, share.kind) for share in spec.shares] == [("share0", "erofs"), ("share1", "erofs")]
    assert isinstance(spec.data, PlaceholderDisk)
    assert len({*spec.descriptors}) == len(spec.descriptors)


def test_a_disk_that_stands_for_another_is_zeros_that_no_process_changes() -> None:
    fd = guest_memory.placeholder_disk()
    try:
        assert is_sealed(fd)
        assert os.pread(fd, 1 << 20, 0) == bytes(os.fstat(fd).st_size)
        assert os.fstat(fd).st_size % 512 == 0 < os.fstat(fd).st_size
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
    finally:
        os.close(fd)


def test_an_agent_that_knows_its_disks_early_leaves_no_template_with_any(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvmnix.launch.agent.frames._BINDS_LATE", (0, 4, 0))
    host = host_of(here)
    for placeholders in (Placeholders(1), Placeholders(data=True)):
        with template_plan(here, placeholders=placeholders) as plan, nothing_left_open():
            with pytest.raises(MvmnixError, match="the image is of an older mvm") as failed:
                save_template(plan, host)
            assert "build the image again" in str(failed.value.hint)
    assert host.templates.list() == ()
    assert save(here).record.hello.agent == AGENT, "without disks it does"


@pytest.mark.parametrize("failing", ["template_key", "Preparation"])
def test_what_stands_for_disks_is_closed_where_no_machine_starts(
    here: House, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    save(here)

    def fails(*_: object, **__: object) -> None:
        raise NoTemplateError("none")

    monkeypatch.setattr(f"mvmnix.launch.runtime.start.{failing}", fails)
    host = host_of(here)
    with (
        template_plan(here, placeholders=Placeholders(2, data=True)) as plan,
        nothing_left_open(),
        pytest.raises((UsageError, NoTemplateError)),
    ):
        save_template(plan, host)


def test_a_machine_under_kvm_starts_cold(here: House) -> None:
    with here.plan() as plan, pytest.raises(NoTemplateError, match="a machine under KVM starts cold"):
        template_key(plan, host_of(here), spec_of(plan, Acceleration.KVM))


RESTARTED = EndReason.HYPERVISOR_DIED


@pytest.mark.parametrize("restored", [Scenario.ABORTS, Scenario.UNRESTORED])
def test_one_that_cannot_be_restored_is_begun_once_more_and_boots(
    here: House, restored: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(here)
    monkeypatch.setattr("mvmnix.launch.runtime.boot._RESTORE", SHORT)
    receipt = run(here, host_of(here, restored=restored))
    assert receipt.observed.template is None
    assert [it.verdict for it in receipt.observed.diagnoses] == [StallReason.NOT_RESTORED]
    (begin, again, end) = here.log()[-3:]
    assert [record.kind for record in (begin, again, end)] == [RecordKind.START, RecordKind.RESTART, RecordKind.END]
    assert (again.reasons, end.reasons) == ((RESTARTED,), ())
    assert ("template" in begin.digests, "template" in again.digests) == (True, False)
    (notice,) = (notice for notice in here.notices if "once more" in notice)
    assert "can't go on from its template while it boots; it is started once more" in notice
    assert host_of(here).templates.list() == (), "no other machine tries it"


def test_one_that_stands_still_once_it_is_restored_is_begun_once_more(here: House) -> None:
    save(here)
    receipt = run(here, host_of(here, restored=Scenario.STALLS))
    assert receipt.observed.template is None
    assert [it.verdict for it in receipt.observed.diagnoses] == [StallReason.STALLED]
    assert [kind for kind, _ in kinds(here)[-3:]] == [RecordKind.START, RecordKind.RESTART, RecordKind.END]


def test_one_that_was_told_a_secret_is_not_begun_again(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here)
    monkeypatch.setenv("TOKEN", "hush")
    secret = SecretReference.parse("token=env:TOKEN", SecretTarget.FILE)
    with here.plan(secrets=(secret,)) as plan, pytest.raises(GuestTimeoutError):
        start_machine(plan, host_of(here, restored=Scenario.STALLS))
    assert [kind for kind, _ in kinds(here)[-2:]] == [RecordKind.START, RecordKind.END]


def test_its_second_boot_is_the_last(here: House) -> None:
    save(here)
    with here.plan() as plan, pytest.raises(MvmnixError):
        start_machine(plan, host_of(here, Scenario.ABORTS, restored=Scenario.ABORTS))
    assert kinds(here)[-2:] == [(RecordKind.RESTART, (RESTARTED,)), (RecordKind.END, (EndReason.HYPERVISOR_DIED,))]


def test_a_guest_that_reports_again_breaks_the_protocol(here: House) -> None:
    save(here)
    with here.plan() as plan, pytest.raises(MachineFailedError):
        start_machine(plan, host_of(here, restored=Scenario.REPEATS))
    assert kinds(here)[-2:] == [(RecordKind.START, ()), (RecordKind.END, (EndReason.CHANNEL_VIOLATION,))]
    assert host_of(here).templates.list() == ()


def test_a_damaged_template_is_gone_and_the_machine_boots(here: House) -> None:
    save(here)
    (path,) = here.path.glob("templates/*.template")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert run(here, host_of(here)).observed.template is None
    assert not path.exists()


def test_a_template_is_kept_of_no_guest_that_cannot_be_saved(here: House) -> None:
    host = host_of(here, Scenario.UNSAVED)
    with template_plan(here) as plan, pytest.raises(MvmnixError, match="the hypervisor can't save its guest"):
        save_template(plan, host)
    assert host.templates.list() == ()
    assert [kind for kind, _ in kinds(here)] == [RecordKind.START, RecordKind.END]
    assert not here.receipts()[0].observed.reason.is_clean


@pytest.mark.parametrize("scenario", [Scenario.ABORTS, Scenario.PANICS, Scenario.BABBLES])
def test_a_template_is_kept_of_no_guest_that_fails_to_boot(here: House, scenario: Scenario) -> None:
    host = host_of(here, scenario)
    with template_plan(here) as plan, nothing_left_open(), pytest.raises(MvmnixError):
        save_template(plan, host)
    assert host.templates.list() == ()
    assert [kind for kind, _ in kinds(here)] == [RecordKind.START, RecordKind.END]


def test_a_plan_for_a_template_starts_once_and_nothing_else(here: House) -> None:
    host = host_of(here)
    with template_plan(here) as plan:
        with pytest.raises(UsageError, match="the plan is for a template"):
            start_machine(plan, host)
        assert here.log() == []
        save_template(plan, host)
        with pytest.raises(MvmnixError, match="may start once"):
            save_template(plan, host)


def test_no_other_plan_makes_one(here: House) -> None:
    host = host_of(here)
    with here.plan() as plan, nothing_left_open(), pytest.raises(UsageError, match="the plan is not for a template"):
        save_template(plan, host)
    assert here.log() == []


def test_a_machine_that_starts_holds_no_other_template(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[str]()
    monkeypatch.setattr(Templates, "close", lambda _: closed.append("closed"))
    save(here)
    run(here, host_of(here))
    assert closed, "also where none was found"
