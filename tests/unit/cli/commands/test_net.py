"""`mvm net`: what a plan lets its guest reach, as it is shown, tried and explained."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mvmnix.machines.network_log import LoggedEvent
from mvmnix.network.policy.decisions import Denial
from mvmnix.network.supervisor_messages import NetworkEvent, NetworkEventKind
from tests.unit.cli.machines import ran
from tests.unit.cli.plans import drafted, read_plan
from tests.unit.cli.station import Station

OPTIONS = (
    *("--allow", "https://api.example.com", "--allow", "http://a.example/v1,method=GET"),
    *("--allow", "tcp:8.8.8.8:53", "--deny", "evil.example", "-p", "8080:80"),
)


@pytest.fixture
def plan(settled: Station) -> Path:
    drafted(settled, *OPTIONS)
    return settled.path / "plan.json"


def test_the_rules_of_a_plan_signed_or_not(settled: Station, plan: Path) -> None:
    network = read_plan(plan).network
    assert network is not None
    bundle = settled.path / "plan.sigstore.json"
    settled.mvm("plan", "sign", "-o", bundle, plan)
    (kept,) = settled.mvm("plan", "ls", "--json").answer("plans")
    for each in (plan, bundle, f"plan:{kept['plan'].removeprefix('sha256:')[:12]}"):
        said = settled.mvm("net", "show", each)
        assert (said.code, said.err) == (0, "")
        assert said.out.splitlines()[:2] == [
            f"network: its digest is sha256:{network.digest.hex}",
            "network: the guest may reach https://api.example.com [allow-1]",
        ]
    shown = settled.mvm("net", "show", plan, "--json").answer("network")
    assert shown == {**network.shown, "digest": network.digest.hex}


def test_the_rules_of_a_machine_without_any(settled: Station) -> None:
    said = settled.mvm("run", "-d", "--name", "web", settled.flake(), "--", "true")
    assert said.code == 0, said.err
    assert settled.mvm("net", "show", "web").out == "the guest has no network device\n"
    assert settled.mvm("net", "show", "web", "--json").answer("network") is None
    tried = settled.mvm("net", "test", "web", "api.example.com:443")
    assert (tried.code, "; the guest has no network device" in tried.out) == (1, True)


def test_what_is_neither_a_machine_nor_a_plan(settled: Station) -> None:
    said = settled.mvm("net", "show", "nowhere")
    assert (said.code, "no machine with the name or id 'nowhere'" in said.err) == (2, True)
    other = settled.path / "other.json"
    other.write_text("{}")
    assert settled.mvm("net", "show", other).code == 126


@pytest.mark.parametrize(
    ("options", "code", "rule", "denial"),
    [
        (("api.example.com:443",), 0, "allow-1", None),
        (("API.example.com.:443",), 0, "allow-1", None),
        (("api.example.com:443", "--resolve", "8.8.8.8"), 0, "allow-1", None),
        (
            ("api.example.com:443", "--resolve", "8.8.8.8", "--resolve", "10.0.0.1"),
            1,
            "allow-1",
            Denial.ADDRESS_NOT_PUBLIC,
        ),
        (("api.example.com:443", "--resolve", "169.254.169.254"), 1, "allow-1", Denial.ADDRESS_METADATA),
        (("api.example.com:443", "--sni", "other.example"), 1, "allow-1", Denial.SNI_MISMATCH),
        (("api.example.com:443", "--sni", ""), 1, "allow-1", Denial.NO_SNI),
        (("api.example.com:443", "--protocol", "http"), 1, "allow-1", Denial.PROTOCOL),
        (("api.example.com:80",), 1, "", Denial.PORT_NOT_ALLOWED),
        (("b.example:443",), 1, "", Denial.NO_RULE),
        (("evil.example:443",), 1, "deny-1", Denial.DENIED_BY_RULE),
        (("a.example:80", "--path", "/v1/x"), 0, "allow-2", None),
        (("a.example:80", "--path", "/v1/../x"), 1, "allow-2", Denial.PATH),
        (("a.example:80", "--path", "/v1", "--method", "PUT"), 1, "allow-2", Denial.METHOD),
        (("api.example.com:443", "--sni", "api.example.com."), 1, "allow-1", Denial.BAD_CLIENT_HELLO),
        (("api.example.com:443", "--sni", "*.example.com"), 1, "allow-1", Denial.BAD_CLIENT_HELLO),
        (("api.example.com:443", "--sni", "API.example.com"), 0, "allow-1", None),
        (("a.example:80", "--path", "/v1", "--method", "CONNECT"), 1, "allow-2", Denial.BAD_HTTP),
        (("a.example:80", "--path", "http://a.example/v1"), 1, "allow-2", Denial.BAD_HTTP),
        (("a.example:80", "--path", "*", "--method", "OPTIONS"), 1, "allow-2", Denial.BAD_HTTP),
        (("a.example:80", "--path", "/v1", "--method", "get"), 1, "allow-2", Denial.PROTOCOL),
        (("a.example:80", "--path", "/v1", "--header", "Content-Length: 9"), 1, "allow-2", Denial.CONTENT),
        (
            ("a.example:80", "--path", "/v1", "--header", "X: y", "--header", "X-HTTP-Method: PUT"),
            1,
            "allow-2",
            Denial.OVERRIDE,
        ),
        (("8.8.8.8:53",), 0, "allow-3", None),
        (("8.8.4.4:53",), 1, "", Denial.NO_RULE),
        (("2852039166:80",), 1, "", Denial.BAD_NAME),
    ],
)
def test_what_would_become_of_a_connection(
    settled: Station, plan: Path, options: tuple[str, ...], code: int, rule: str, denial: Denial | None
) -> None:
    said = settled.mvm("net", "test", plan, *options, "--json")
    found = said.answer("verdict")
    assert (said.code, found["allowed"], found["rule"], found["code"]) == (code, code == 0, rule, denial)
    assert settled.mvm("net", "test", plan, *options).out.startswith(found["text"])


def test_a_refusal_says_which_option_would_allow_it(settled: Station, plan: Path) -> None:
    said = settled.mvm("net", "test", plan, "b.example:443")
    why = "no rule of the plan allows this host; --allow https://b.example would allow it"
    assert said.out == f"b.example:443 is refused [no-rule]: {why}\n"
    assert settled.mvm("net", "test", plan, "api.example.com:443").out == "api.example.com:443 is allowed by allow-1\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        *((it, "not HOST:PORT") for it in ("api.example.com", "api.example.com:", "a:0", "a:65536", "a:x")),
        *((it, "not HOST:PORT") for it in (":٣", "a:4294967739", "a:0443")),
        ("api.example.com:443 --resolve nowhere", "nowhere"),
        ("a.example:80 --header nothing", "NAME: VALUE"),
    ],
)
def test_what_can_not_be_tried(settled: Station, plan: Path, words: str, why: str) -> None:
    said = settled.mvm("net", "test", plan, *words.split())
    assert (said.code, why in said.err) == (2, True)


@pytest.mark.parametrize("code", list(Denial))
def test_each_code_is_explained(station: Station, code: Denial) -> None:
    said = station.mvm("net", "explain", code)
    assert (said.code, said.out.startswith(f"{code}: ")) == (0, True)
    assert station.mvm("net", "explain", code, "--json").answer("explanation")["next"] in said.out


def test_a_code_that_is_none(station: Station) -> None:
    assert station.mvm("net", "explain", "nonsense").code == 2


# -- the log of a machine: read once it is the one that the receipt names

LOGGED = LoggedEvent(
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "0123456789ab",
    NetworkEvent(NetworkEventKind.DENIED, code="no-rule", name="a.example", port=443),
    3,
)


def write_log(machine: Path) -> None:
    """A log that the machine's supervisor did not write."""
    (machine / "network.log").write_bytes(LOGGED.line())
    (machine / "network.log").chmod(0o600)


def test_a_log_that_the_receipt_does_not_name_is_refused(settled: Station) -> None:
    machine = ran(settled, "true")
    assert settled.mvm("net", "log", "web").code == 2, "there is none"
    assert settled.mvm("audit", "verify").code == 0
    write_log(machine)
    said = settled.mvm("net", "log", "web")
    assert (said.code, said.out) == (126, "")
    assert f"the network log of the machine {machine.name}" in said.err
    assert "[receipt-mismatch]" in said.err
    said = settled.mvm("audit", "verify", "--json")
    assert said.code == 1
    (reason,) = said.answer("log")["reasons"]
    assert (reason["code"], machine.name in reason["what"]) == ("receipt-mismatch", True)
    said = settled.mvm("show", "web")
    assert (said.code, "receipt-mismatch" in said.out) == (1, True)


def test_a_log_without_a_receipt_is_shown_and_that_is_told(settled: Station) -> None:
    machine = ran(settled, "true")
    write_log(machine)
    (machine / "receipt.sigstore.json").unlink()
    said = settled.mvm("net", "log", "web")
    assert said.code == 0
    assert said.out.endswith("denied a.example:443 [no-rule]; --allow https://a.example would allow it\n")
    assert "has no receipt that its log could be compared with" in said.err
    assert "2 events missing here" in said.err
    (line,) = settled.mvm("net", "log", "web", "--json").out.splitlines()
    assert (json.loads(line)["number"], json.loads(line)["flag"]) == (3, "--allow https://a.example")
    said = settled.mvm("audit", "verify")
    assert (said.code, f"the receipt of the machine {machine.name} is not kept any more" in said.err) == (0, True)
    assert settled.mvm("rm", "web").code == 0
    found = settled.mvm("audit", "verify", "--json").answer("log")
    assert (found["receipts"], found["removed"], found["missing"]) == (0, 1, [])
