"""Machines whose plans have a network: refused where it is too wide or can't be, and written down."""

from pathlib import Path

import pytest

from mvmnix.audit.record import RecordKind
from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.runtime.start import start_machine
from mvmnix.plan.network import Network, parse_rules
from tests.unit.launch.house import House, house


@pytest.fixture
def here(here: House) -> House:
    here.world.change_manifest(lambda value: value.update(network=True))
    here.world.sign_provenance()
    return here


def test_an_image_whose_machines_have_no_driver_is_refused(tmp_path: Path) -> None:
    with house(tmp_path / "house") as here:
        network = Network(parse_rules(["https://api.example.com"], []))
        with here.plan(network=network) as plan, pytest.raises(RefusedError) as caught:
            start_machine(plan, here.host())
        assert caught.value.codes == (ReasonCode.PLAN_MISMATCH,)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("https://*", ReasonCode.NETWORK_FORBIDDEN),
        ("tcp:169.254.169.254:80", ReasonCode.NETWORK_FORBIDDEN),
    ],
)
def test_no_guest_has_a_network_that_nothing_guards(here: House, rule: str, code: ReasonCode) -> None:
    with here.plan(network=Network(parse_rules([rule], []))) as plan, pytest.raises(RefusedError) as caught:
        start_machine(plan, here.host())
    assert caught.value.codes == (code,)
    assert [(it.kind, it.reasons) for it in here.log()] == [(RecordKind.REFUSAL, (code,))]
    assert list(here.directory("machines").names()) == []


def test_the_log_has_the_digest_of_the_network_and_what_is_acknowledged(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(parse_rules(["https://*,acknowledge=all-hosts"], ["example.org"]))
    monkeypatch.setattr("mvmnix.launch.runtime.start.machine_network", lambda _plan, _host: None)
    with here.plan(network=network) as plan, start_machine(plan, here.host()):
        pass
    begin = here.log()[0]
    assert (begin.kind, begin.digests["network"]) == (RecordKind.START, network.digest)
    assert begin.reasons == ("acknowledged-all-hosts",)
