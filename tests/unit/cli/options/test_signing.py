"""Claims are signed keyless where that is asked for, and trusted by the identity that the policy names."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from mvmnix.api.signing import KeylessChoice
from mvmnix.cli.options.signing import keyless_choice
from mvmnix.config import SecretRef, SigningRule, TokenPlace
from mvmnix.errors import MvmnixError, RefusedError, UsageError
from mvmnix.keys import Role
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.identity import sigstore
from tests.private_sigstore import Sigstore
from tests.private_sigstore.oidc import Issuer
from tests.private_sigstore.server import Served
from tests.unit.cli.station import Station

SUBJECT, ISSUER = "planner@mvmnix.test", "https://issuer.test"
PRIVATE = Sigstore()
#: Nobody listens there.
TRUST_CONFIG = Served(PRIVATE, "http://127.0.0.1:9", Issuer("http://127.0.0.1:9/oidc", ""), Lock()).trust_config


class Services:
    """CA, log and OIDC issuer in this process; keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def sign(self, payload: bytes, **options: Any) -> bytes:
        self.asked.append(options)
        moment = datetime.now(UTC).replace(microsecond=0)
        return PRIVATE.attest(payload, at=moment, subject=SUBJECT, issuer=ISSUER) + b"\n"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    made = Services()
    monkeypatch.setattr(sigstore, "sign", made.sign)
    monkeypatch.setenv("TOKEN", "the token")
    return made


@pytest.fixture
def trusting(settled: Station, services: Services) -> Station:
    """A station whose policy knows an identity as planner."""
    (settled.config / "roots").mkdir(mode=0o700)
    (settled.config / "roots/ours.json").write_bytes(PRIVATE.trusted_root)
    policy = settled.config / "trust.toml"
    policy.write_text(
        policy.read_text().replace(
            "[[signers]]",
            f"""[[roots]]
name = "ours"
sha256 = "{PRIVATE.domain.hex}"

[[signers]]
name = "ci"
roles = ["planner"]
identity = "{SUBJECT}"
issuer = "{ISSUER}"
root = "ours"

[[signers]]""",
            1,
        )
    )
    return settled


def made_plan(it: Station) -> Path:
    path = it.path / "plan.json"
    assert it.mvm("plan", "create", "-o", path, it.flake(), "--", "echo", "keyless").code == 0
    return path


def test_a_keyless_plan_is_signed_and_launched(trusting: Station, services: Services) -> None:
    plan, bundle = made_plan(trusting), trusting.path / "plan.sigstore.json"
    signed = trusting.mvm("plan", "sign", "--keyless", "--identity-token", "env:TOKEN", "-o", bundle, plan)
    assert signed.code == 0, signed.err
    assert services.asked == [{"token": "the token", "interactive": False, "where": sigstore.Instance.PRODUCTION}]
    data = bundle.read_bytes()
    assert envelope.parse_bundle(data).to_bytes() == data
    assert envelope.parse_bundle(data).material.certificate
    assert "signed by ci, a planner" in trusting.mvm("plan", "show", bundle).err
    launched = trusting.mvm("launch", bundle)
    assert (launched.code, launched.out) == (0, "keyless\n")


def test_the_configuration_says_who_signs_keyless(trusting: Station, services: Services) -> None:
    plan, bundle = made_plan(trusting), trusting.path / "plan.sigstore.json"
    trust_config = trusting.path / "config.json"
    trust_config.write_bytes(TRUST_CONFIG)
    (trusting.config / "config.toml").write_text(
        f'version = 1\n[signing]\nkeyless = ["planner"]\nsigstore = "file:{trust_config}"\n'
        'identity-token = "env:TOKEN"\n'
    )
    assert trusting.mvm("plan", "sign", "-o", bundle, plan).code == 0
    assert services.asked == [{"token": "the token", "interactive": False, "where": TRUST_CONFIG}]
    assert trusting.mvm("launch", bundle).code == 0
    # an option says otherwise
    assert trusting.mvm("plan", "sign", "--sigstore", "staging", "-o", bundle, plan).code == 0
    assert services.asked[-1]["where"] is sigstore.Instance.STAGING


def test_each_role_for_itself(trusting: Station, services: Services) -> None:
    with trusting.rooms() as rooms:
        rooms.signer.choose(KeylessChoice(keyless=True), Role.BUILDER)
        rooms.signer.prepare(Role.BUILDER)
        assert envelope.parse_bundle(rooms.sign(Role.BUILDER, b"{}")).material.certificate
        assert envelope.parse_bundle(rooms.sign(Role.PLANNER, b"{}")).material.hint
        assert envelope.parse_bundle(rooms.sign(Role.HOST, b"{}")).material.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--identity-token", "eyJhbGciOi"), "takes a reference"),
        (("--identity-token", "env:NOT_SET_ANYWHERE"), "there is nothing"),
        (("--trust-config", "/proc/nonexistent/config.json"), "config.json is not a trust configuration: No such file"),
        (("--trust-config", "/"), "/ is not a trust configuration: Is a directory"),
        (("--trust-config", "x", "--sigstore", "staging"), "two answers"),
    ],
)
def test_options_that_lead_nowhere(trusting: Station, services: Services, options: tuple[str, ...], told: str) -> None:
    said = trusting.mvm("plan", "sign", *options, made_plan(trusting))
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert "eyJ" not in said.err
    assert services.asked == []


NO_CONFIGS = [
    ("{}", "mediaType Field required"),
    ("no", "Invalid JSON"),
    ("[]", "should be an object"),
    ("\xff", "utf-8"),
    (" " * (4 << 20) + "1", "larger than"),
    (TRUST_CONFIG.decode().replace("v0.2", "v0.9"), "v0.2"),
    (TRUST_CONFIG.decode().replace('"caUrls":[{', '"caUrls":[],"other":[{'), ""),
]


@pytest.mark.parametrize("building", [False, True])
@pytest.mark.parametrize(("config", "told"), NO_CONFIGS)
def test_what_is_no_trust_configuration(
    trusting: Station, services: Services, building: bool, config: str, told: str
) -> None:
    """A mistake, noticed before anything is built or anybody is asked. The kept build won't do: a key signed it."""
    path = trusting.path / "config.json"
    path.write_text(config, encoding="latin-1")
    argv = ("build", trusting.flake()) if building else ("plan", "sign", made_plan(trusting))
    said = trusting.mvm(*argv, "--trust-config", path, "--identity-token", "env:TOKEN")
    assert (said.code, said.out) == (2, "")
    assert f"{path} is not a trust configuration: " in said.err
    assert told in said.err
    assert len(said.err.splitlines()) == 2
    assert services.asked == []


@pytest.mark.parametrize(("token", "told"), [("header.secret.signature", "malformed"), ("", "no OIDC token")])
def test_signing_that_fails_tells_why_and_no_secret(token: str, told: str) -> None:
    """The real library, which gets no further than the token."""
    with pytest.raises(MvmnixError, match=told) as caught:
        sigstore.sign(b"{}", token=token, interactive=False, where=TRUST_CONFIG)
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert not isinstance(caught.value, RefusedError)


def test_an_expired_token_is_called_expired() -> None:
    token = Issuer("http://127.0.0.1:9/oidc", "").token("ci@mvmnix.test", datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(MvmnixError, match="expired"):
        sigstore.sign(b"{}", token=token, interactive=False, where=TRUST_CONFIG)


def test_a_choice_without_a_token_or_place_changes_nothing_else() -> None:
    token = SecretRef(TokenPlace.ENVIRONMENT, "T")
    rule = SigningRule(frozenset({"planner"}), "staging", token)
    assert KeylessChoice().over(rule, frozenset({Role.BUILDER})) == rule
    assert KeylessChoice(keyless=True).over(rule, frozenset({Role.BUILDER})).keyless == {"builder", "planner"}
    with pytest.raises(UsageError):
        keyless_choice(False, "", "staging", "file")
    assert keyless_choice(False, "env:X", None, "").keyless
