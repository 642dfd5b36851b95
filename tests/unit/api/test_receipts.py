"""The receipt of a machine is handed out once it verifies: signed by the host, and as the log tells it."""

import json

import pytest

from mvmnix.api import read_receipt
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.machines.ending import EndReason
from mvmnix.machines.receipt import Receipt
from tests.unit.cli.machines import ran
from tests.unit.cli.station import Station


def read(station: Station, machine: str) -> Receipt:
    with station.rooms() as context:
        return read_receipt(context, machine)


def test_by_id_and_by_name(settled: Station) -> None:
    machine = ran(settled, "true")
    found = read(settled, machine.name)
    assert (found.observed.machine, found.observed.reason) == (machine.name, EndReason.GUEST_EXIT)
    assert read(settled, "web") == found


def test_another_machines_receipt_is_refused(settled: Station) -> None:
    machine = ran(settled, "true")
    first = (machine / "receipt.sigstore.json").read_bytes()
    assert settled.mvm("rm", "web").code == 0
    (ran(settled, "true") / "receipt.sigstore.json").write_bytes(first)
    with pytest.raises(RefusedError) as refused:
        read(settled, "web")
    assert set(refused.value.codes) == {ReasonCode.LOG_MISMATCH}


def test_a_changed_receipt_is_refused(settled: Station) -> None:
    receipt = ran(settled, "true") / "receipt.sigstore.json"
    bundle = json.loads(receipt.read_bytes())
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][::-1]
    receipt.write_text(json.dumps(bundle, separators=(",", ":"), sort_keys=True))
    with pytest.raises(RefusedError):
        read(settled, "web")


def test_without_a_receipt(settled: Station) -> None:
    (ran(settled, "true") / "receipt.sigstore.json").unlink()
    with pytest.raises(MvmnixError, match="has no receipt"):
        read(settled, "web")


def test_a_machine_that_is_none(settled: Station) -> None:
    with pytest.raises(MvmnixError, match="no machine with the name or id"):
        read(settled, "web")
