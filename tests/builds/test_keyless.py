"""A whole keyless build and run: signed in a job with a private Sigstore, verified by anyone, admitted by the gate."""

from pathlib import Path

import pytest

from mvmnix.provenance.bundle import envelope
from tests.conftest import Home, World
from tests.private_sigstore import Sigstore
from tests.private_sigstore.server import served
from tests.support.keyless import SUBJECT, trust

pytestmark = pytest.mark.vm


def test_a_job_builds_signs_and_plans_keyless(copied: World, tmp_path: Path) -> None:
    home, private, out = copied.home, Sigstore(), tmp_path / "hello"
    config, plan, signed = (tmp_path / name for name in ("config.json", "plan.json", "plan.sigstore.json"))
    with served(private) as services:
        issuer, job = services.issuer_url, services.ambient(SUBJECT)
        trust(home.config, private, issuer)
        config.write_bytes(services.config(tsa=False))
        keyless = ("--keyless", "--trust-config", config)
        done(home, "build", *keyless, "./examples/hello", "--out", out, cwd=copied.tree, env=job)
        done(home, "plan", "create", "--timeout", "60", "-o", plan, "./examples/hello", cwd=copied.tree)
        done(home, "plan", "sign", *keyless, "-o", signed, plan, env=job)
    # from here on nobody is asked: the services are gone
    for name in ("kernel", "initrd", "rootfs", "manifest.json"):
        assert (out / name).read_bytes() == (copied.hello / name).read_bytes(), "the same bits, signed anew"
    provenance = out / "provenance.sigstore.json"
    assert envelope.parse_bundle(provenance.read_bytes()).material.certificate
    said = done(home, "verify", out).decode()
    assert f"signed by {SUBJECT}, certified by {issuer}, SLSA Build L1 (signed 20" in said
    root = tmp_path / "root.json"
    root.write_bytes(private.trusted_root)
    by = ("verify", "--certificate-oidc-issuer", issuer, "--trusted-root", root, "--bundle", provenance)
    done(home, *by, "--certificate-identity", SUBJECT, out / "rootfs", out / "kernel", out / "initrd")
    assert home.mvm(*by, "--certificate-identity", f"not-{SUBJECT}", out / "rootfs").returncode == 1
    assert done(home, "launch", signed) == copied.first_run.stdout
    done(home, "audit", "verify")


def done(home: Home, *arguments: str | Path, cwd: Path = Path("/"), env: dict[str, str] | None = None) -> bytes:
    """What a command prints that has to succeed."""
    said = home.mvm(*arguments, cwd=cwd, env=env)
    assert said.returncode == 0, said.stderr.decode()
    return said.stdout
