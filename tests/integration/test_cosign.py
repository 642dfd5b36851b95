"""Debian's cosign accepts what mvm signs, and refuses it with another key or another artifact."""

from pathlib import Path

import pytest

from mvmnix import process
from mvmnix.keys import Algorithm, PrivateKey
from mvmnix.launch import plan as plans
from mvmnix.provenance import envelope, predicate
from tests.unit.provenance import world as worlds

pytestmark = pytest.mark.integration

#: A trusted root with no authority in it: a key needs none.
EMPTY_ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'
FILES = ("kernel", "initrd", "rootfs", "manifest.json")


def cosign(directory: Path, *, key: str, bundle: str, artifact: str) -> process.Completed:
    arguments = ("--new-bundle-format", "--trusted-root", "root.json", "--insecure-ignore-tlog")
    argv = ("/usr/bin/cosign", "verify-blob-attestation", "--key", key, *arguments, "--bundle", bundle, artifact)
    return process.run(
        argv, cwd=str(directory), check=False, env={"HOME": str(directory), "PATH": "/usr/bin"}, timeout=60
    )


@pytest.fixture(params=Algorithm)
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An image with a provenance and a plan, signed by keys of one kind, as `cosign` wants the files to lie."""
    world = worlds.new_world(tmp_path)
    builder, planner, other = (PrivateKey.generate(request.param) for _ in range(3))
    provenance = predicate.to_statement(world.provenance(), world.image.artifacts)
    contents = dict(zip(FILES, (world.kernel, world.initrd, world.rootfs, world.manifest), strict=True))
    contents |= {f"other-{name}": data + b"\0" for name, data in contents.items()}
    contents |= {
        "provenance.json": envelope.sign(provenance.to_bytes(), builder).to_bytes(),
        "plan.json": envelope.sign(plans.to_statement(world.plan()).to_bytes(), planner).to_bytes(),
        "provenance.pub": builder.public.pem.encode(),
        "plan.pub": planner.public.pem.encode(),
        "other.pub": other.public.pem.encode(),
        "root.json": EMPTY_ROOT.encode(),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("claim", ["provenance", "plan"])
def test_cosign(directory: Path, claim: str) -> None:
    key, bundle = f"{claim}.pub", f"{claim}.json"
    for name in FILES:
        accepted = cosign(directory, key=key, bundle=bundle, artifact=name)
        assert accepted.status == 0, accepted.stderr.decode()
        assert b"Verified OK" in accepted.stderr
    other_artifact = cosign(directory, key=key, bundle=bundle, artifact="other-kernel")
    assert other_artifact.status != 0
    assert b"does not match any digest in statement" in other_artifact.stderr
    other_key = cosign(directory, key="other.pub", bundle=bundle, artifact="kernel")
    assert other_key.status != 0
    assert b"Verified OK" not in other_key.stderr
    data = (directory / bundle).read_bytes()
    (directory / bundle).write_bytes(worlds.flipped_signature(data))
    assert cosign(directory, key=key, bundle=bundle, artifact="kernel").status != 0
