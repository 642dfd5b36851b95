"""A machine with a network, from its start to its receipt, with the network's processes played by the test."""

import base64
import json
from typing import Any

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.launch.runtime import start
from mvmnix.launch.runtime.finalize import MachineFailedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.machines.ending import EndReason
from mvmnix.machines.logs import read_network_log
from mvmnix.machines.machine_dir import RECEIPT
from mvmnix.machines.network_log import NEWER, LoggedEvent, kept_digest
from mvmnix.machines.receipt import from_statement
from mvmnix.machines.receipt_check import FileComparison, compare_files, kept_files
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from mvmnix.plan.network import Network, WhenGatewayEnds, parse_rules
from mvmnix.provenance.bundle import statement
from tests.unit.launch.house import House
from tests.unit.launch.played_network import PlayedNetwork

RULES = parse_rules(["https://api.example.com", "tcp:db.example.com:5432"], [])
OPENED = NetworkEvent(NetworkEventKind.OPENED, rule="allow-2", name="db.example.com", address="192.0.2.1", port=5432)
DENIED = NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="x.example.com")


@pytest.fixture
def here(here: House) -> House:
    here.world.change_manifest(lambda value: value.update(network=True))
    here.world.sign_provenance()
    return here


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> list[PlayedNetwork]:
    return PlayedNetwork.play(monkeypatch)


def observed(it: House) -> dict[str, Any]:
    """What the receipt says that the host saw."""
    (receipt,) = it.path.glob("machines/*/receipt.sigstore.json")
    payload = json.loads(receipt.read_text())["dsseEnvelope"]["payload"]
    found: dict[str, Any] = json.loads(base64.b64decode(payload))["predicate"]["observedByHost"]
    return found


def compared(it: House, machine: str) -> FileComparison:
    """What is kept of a machine, beside its receipt."""
    with it.directory("machines").existing(machine) as directory:
        bundle = json.loads(directory.read(RECEIPT, 1 << 20))
        receipt = from_statement(statement.parse(base64.b64decode(bundle["dsseEnvelope"]["payload"])))
        return compare_files(receipt, kept_files(directory))


def logged(it: House, machine: str) -> list[NetworkEvent]:
    """The events of a machine's network log."""
    kept = read_network_log(it.directory("machines"), machine)
    return [line.event for line in kept if isinstance(line, LoggedEvent)]


def test_verdicts_are_kept_counted_and_told(here: House, played: list[PlayedNetwork]) -> None:
    with here.plan(network=Network(RULES)) as plan:
        machine = start_machine(plan, here.host())
        (network,) = played
        assert network.calls == ["start"]
        for event in (OPENED, OPENED, DENIED, DENIED, DENIED):
            network.told(event)
        machine.stop()
        assert network.calls[0] == "start"
        assert "close" in network.calls
        kept = logged(here, machine.id)
    assert kept == [OPENED, OPENED, DENIED, DENIED, DENIED]
    log = here.log()
    assert [(it.kind, it.reasons) for it in log if it.kind is RecordKind.NETWORK] == [
        (RecordKind.NETWORK, ("first-use", "rule-2"))
    ]
    (refusal,) = (it for it in log if it.kind is RecordKind.REFUSAL)
    assert (refusal.reasons, refusal.count, refusal.machine) == (("network-no-rule",), 3, machine.id)
    assert here.notices[-1] == (
        f"{machine.id}: x.example.com is refused (no-rule); --allow https://x.example.com would allow it"
    )
    with here.directory("machines").existing(machine.id) as directory:
        kept_log = kept_digest(directory).hex
    assert observed(here)["network"] == {"rules": Network(RULES).digest.hex, "log": kept_log}
    assert compared(here, machine.id) == FileComparison((), ())
    (log_file,) = here.path.glob(f"machines/*/{NEWER}")
    log_file.write_bytes(log_file.read_bytes().replace(b"x.example.com", b"y.example.com", 1))
    assert [it.code for it in compared(here, machine.id).reasons] == [ReasonCode.RECEIPT_MISMATCH]
    for file in here.path.glob("machines/*/network.*log"):
        file.unlink()
    assert compared(here, machine.id) == FileComparison((), ("network log",))


def test_a_machine_is_not_ready_before_its_network_serves(
    here: House, played: list[PlayedNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serves(network: PlayedNetwork) -> None:
        monkeypatch.setattr(PlayedNetwork, "is_starting", False)
        network.calls.append("serves")

    monkeypatch.setattr(PlayedNetwork, "is_starting", True)
    PlayedNetwork.when_watched = serves
    with here.plan(network=Network(RULES)) as plan:
        machine = start_machine(plan, here.host())
        assert played[0].calls == ["start", "serves"]
        machine.stop()


def test_a_network_that_can_not_be_started_leaves_no_hypervisor(here: House, played: list[PlayedNetwork]) -> None:
    PlayedNetwork.broken = True
    with here.plan(network=Network(RULES)) as plan, pytest.raises(MvmnixError, match="no process can be started"):
        start_machine(plan, here.host())
    assert played[0].calls[:2] == ["start", "close"]
    assert here.log()[-1].kind is RecordKind.END


def test_a_machine_ends_with_its_gateway(here: House, played: list[PlayedNetwork]) -> None:
    with here.plan(network=Network(RULES)) as plan:
        machine = start_machine(plan, here.host())
        played[0].ended()
        ended = machine.wait()
        kept = logged(here, machine.id)
    assert [it.code for it in kept] == ["gateway-ended"]
    assert ended.reason is EndReason.NETWORK_ENDED
    assert not ended.reason.is_clean
    assert here.log()[-1].reasons == ("network-ended",)


def test_what_the_gateway_complained_of_is_told(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlayedNetwork, "is_starting", True)
    PlayedNetwork.when_watched = lambda network: network.ended()
    with (
        here.plan(network=Network(RULES)) as plan,
        pytest.raises(MachineFailedError, match="gateway: MemoryError") as failed,
    ):
        start_machine(plan, here.host())
    assert failed.value.ended is not None
    assert failed.value.ended.reason is EndReason.NETWORK_ENDED


def test_a_machine_goes_on_without_network_where_its_plan_says_so(here: House, played: list[PlayedNetwork]) -> None:
    with here.plan(network=Network(RULES, when_gateway_ends=WhenGatewayEnds.CONTINUE)) as plan:
        machine = start_machine(plan, here.host())
        played[0].ended()
        assert machine.ping() >= 0
        assert machine.stop().reason is EndReason.STOPPED
        kept = logged(here, machine.id)
    assert [it.code for it in kept] == ["gateway-ended"]


def test_a_first_use_that_can_not_be_logged_ends_the_machine(
    here: House, played: list[PlayedNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    with here.plan(network=Network(RULES)) as plan:
        host = here.host()
        machine = start_machine(plan, host)
        append = type(host.journal).append

        def full(_journal: object, record: Any) -> Any:
            if record.kind is RecordKind.NETWORK:
                raise MvmnixError("the disk is full")
            return append(host.journal, record)

        monkeypatch.setattr(type(host.journal), "append", full)
        played[0].told(OPENED)
        assert machine.wait().reason is EndReason.NETWORK_ENDED


def test_where_there_can_be_no_network_nothing_starts(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_network: Network, _jail: object) -> MachineNetwork:
        raise refuse(ReasonCode.NETWORK_UNAVAILABLE, "the plan's network", "no namespace can be made", "do")

    monkeypatch.setattr(start, "MachineNetwork", refused)
    with here.plan(network=Network(RULES)) as plan, pytest.raises(RefusedError) as caught:
        start_machine(plan, here.host())
    assert caught.value.codes == (ReasonCode.NETWORK_UNAVAILABLE,)
    (record,) = here.log()
    assert (record.kind, record.reasons) == (RecordKind.REFUSAL, (ReasonCode.NETWORK_UNAVAILABLE,))
    assert here.host().machines.names() == ()
