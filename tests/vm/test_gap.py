"""A real machine starts on a verifier's word alone, where neither the evidence nor the builder's world ever was."""

import json
import shutil
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from tests.conftest import Home, World, make_home

pytestmark = pytest.mark.vm

FILES = ("kernel", "initrd", "rootfs", "manifest.json")


def trusting(world: World) -> str:
    """The world's policy, now with a verifier whose key it has; its text."""
    key = world.home.mvm("key", "create", "verifier").stdout.decode()
    who = json.loads(world.home.mvm("key", "show", "--json", "verifier").stdout)["result"]["fingerprint"]
    policy = world.home.path / ".config/mvmnix/trust.toml"
    text = policy.read_text() + f'\n[[signers]]\nname = "gate"\nroles = ["verifier"]\nkey = """\n{key}"""\n'
    text += f'\n[[verifiers]]\nsigner = "gate"\nid = "urn:mvmnix:verifier:{who}"\nmax-age = "1d"\nmin-level = 1\n'
    policy.write_text(text)
    return text


def carry(world: World, carried: Path) -> None:
    """The image's four files, a plan and a summary: all that crosses the gap."""
    world.home.signed_plan(carried, "./examples/hello", cwd=world.tree)
    said = world.home.mvm("verify", "--vsa", carried / "vsa.json", world.hello)
    assert said.returncode == 0, said.stderr.decode()
    (carried / "image").mkdir()
    for name in FILES:
        shutil.copy(world.hello / name, carried / "image")


def far_side(path: Path, policy: str) -> Home:
    """A user with a host key and that policy, who never built anything."""
    far = make_home(path)
    assert far.mvm("key", "create", "host").returncode == 0
    (far.path / ".config/mvmnix/trust.toml").write_text(policy)
    (far.path / ".config/mvmnix/trust.toml").chmod(0o600)
    return far


def test_an_image_crosses_the_gap(copied: World, tmp_path: Path) -> None:
    carried = tmp_path / "carried"
    carried.mkdir()
    policy = trusting(copied)
    carry(copied, carried)
    far = far_side(tmp_path / "far", policy)
    launch = ("launch", "--image", carried / "image", "--vsa", carried / "vsa.json", carried / "plan.sigstore.json")
    done = far.mvm(*launch)
    assert (done.returncode, done.stdout) == (0, b"Hello from a verified microVM.\n"), done.stderr.decode()
    log = [json.loads(line) for line in far.mvm("audit", "tail").stdout.splitlines()]
    (admission,) = [record["digests"] for record in log if record["kind"] == "admission"]
    assert admission["summary"] == Digest.of((carried / "vsa.json").read_bytes()).hex
    assert admission["provenance"] == Digest.of((copied.hello / "provenance.sigstore.json").read_bytes()).hex
    (receipt,) = far.path.rglob("receipt.sigstore.json")
    key = tmp_path / "host.pub"
    key.write_bytes(far.mvm("key", "show", "host").stdout)
    for name in FILES:
        about = far.mvm("verify", "--key", key, "--bundle", receipt, carried / "image" / name)
        assert about.returncode == 0, about.stderr.decode()

    kernel = bytearray((carried / "image/kernel").read_bytes())
    kernel[len(kernel) // 2] ^= 1
    (carried / "image/kernel").unlink()
    (carried / "image/kernel").write_bytes(kernel)
    refused = far.mvm(*launch)
    assert (refused.returncode, b"refused [artifact-mismatch]" in refused.stderr) == (126, True)
