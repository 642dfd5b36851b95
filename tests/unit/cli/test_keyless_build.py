"""A build whose provenance and plan a job signs keyless: kept, used again, verified by anybody, launched."""

import pytest

from mvmnix.errors import ReasonCode as Code
from mvmnix.provenance.bundle import envelope
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import served
from tests.support.keyless import SUBJECT, trust
from tests.unit.cli.station import Station


def test_a_job_signs_a_build_and_its_plan_keyless(settled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    private, out = Sigstore(), settled.path / "out"
    config, plan, signed = (settled.path / name for name in ("config.json", "plan.json", "plan.sigstore.json"))
    with served(private) as services:
        for name, value in services.ambient(SUBJECT).items():
            monkeypatch.setenv(name, value)
        trust(settled.config, private, services.issuer_url)
        config.write_bytes(services.config(tsa=False))
        (settled.config / "config.toml").write_text(
            f'version = 1\n[signing]\nkeyless = ["builder", "planner"]\nsigstore = "file:{config}"\n'
        )
        reference = settled.flake()
        # one that is signed so already is used again
        said = settled.mvm("build", "--keyless", "--trust-config", config, reference, "--out", out)
        assert said.code == 0, said.err
        assert settled.mvm("plan", "create", "-o", plan, reference, "--", "echo", "keyless").code == 0
        said = settled.mvm("plan", "sign", "-o", signed, plan)
        assert said.code == 0, said.err
    # from here on nobody is asked: the services are gone
    bundle = out / "provenance.sigstore.json"
    assert envelope.parse_bundle(bundle.read_bytes()).material.certificate
    root = settled.path / "root.json"
    root.write_bytes(private.trusted_root)
    by = ("--certificate-oidc-issuer", services.issuer_url, "--trusted-root", root, "--bundle", bundle)
    files = [out / name for name in ("kernel", "initrd", "rootfs", "manifest.json")]
    assert settled.mvm("verify", "--certificate-identity", SUBJECT, *by, *files).code == 0
    other = settled.mvm("verify", "--json", "--certificate-identity", "somebody@else.test", *by, out / "rootfs")
    assert (other.code, Code.SIGNER_UNKNOWN in other.out) == (1, True)
    verified = settled.mvm("verify", out)
    assert "signed by ci@mvmnix.test" in verified.out
    assert (verified.code, "SLSA Build L1 (signed 20" in verified.out) == (0, True)
    launched = settled.mvm("launch", signed)
    assert (launched.code, launched.out) == (0, "keyless\n"), launched.err
    assert settled.mvm("audit", "verify").code == 0


def test_a_plan_that_another_job_signed_starts_nothing(settled: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    private = Sigstore()
    config, plan, signed = (settled.path / name for name in ("config.json", "plan.json", "plan.sigstore.json"))
    with served(private) as services:
        trust(settled.config, private, services.issuer_url)
        for name, value in services.ambient(f"not-{SUBJECT}").items():
            monkeypatch.setenv(name, value)
        config.write_bytes(services.config(tsa=False))
        assert settled.mvm("plan", "create", "-o", plan, settled.flake(), "--", "true").code == 0
        keyless = ("--keyless", "--trust-config", config)
        assert settled.mvm("plan", "sign", *keyless, "-o", signed, plan).code == 0
    said = settled.mvm("launch", signed)
    assert (said.code, f"refused [{Code.SIGNER_UNKNOWN}]" in said.err) == (126, True)
