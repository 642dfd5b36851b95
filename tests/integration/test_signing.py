"""A whole `mvm plan sign --keyless` against services on loopback, as a user with a token in a file types it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mvmnix.keys import Role
from mvmnix.plan import plan as plans
from mvmnix.provenance.identity.trust import Identity, Pattern, Signer, Trust
from mvmnix.provenance.verify.authentication import authenticate
from tests.conftest import Home
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import served
from tests.unit.provenance import world as worlds

pytestmark = pytest.mark.integration

SUBJECT = "planner@mvmnix.test"


@pytest.mark.parametrize("tsa", [False, True])
def test_a_plan_is_signed_keyless(home: Home, tmp_path: Path, tsa: bool) -> None:
    private = Sigstore()
    statement, token, config = (tmp_path / name for name in ("plan.json", "token", "config.json"))
    statement.write_bytes(plans.plan_statement(worlds.new_world(tmp_path).plan()).to_bytes())
    token.touch(mode=0o600)
    before = datetime.now(UTC).replace(microsecond=0)
    with served(private) as services:
        token.write_text(services.token(SUBJECT))
        config.write_bytes(services.config(tsa=tsa))
        signed = home.mvm("plan", "sign", "--trust-config", config, "--identity-token", f"file:{token}", statement)
        assert signed.returncode == 0, signed.stderr.decode()
        token.write_text("header.secret.signature")
        failed = home.mvm("plan", "sign", "--trust-config", config, "--identity-token", f"file:{token}", statement)
    identity = Identity(Pattern(SUBJECT), Pattern(services.issuer_url), private.domain)
    trust = Trust((Signer("ci", identity, frozenset({Role.PLANNER})),), {private.domain: private.trusted_root})
    found = authenticate(signed.stdout, trust=trust, role=Role.PLANNER, what="the plan")
    assert found.payload == statement.read_bytes()
    assert found.time is not None
    assert before <= found.time <= datetime.now(UTC)
    assert (failed.returncode, failed.stdout) == (125, b"")
    assert b"signing keyless failed" in failed.stderr
    assert b"secret" not in failed.stderr
