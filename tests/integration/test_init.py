"""What `mvm init` writes, through this machine's Nix and without a network: it evaluates, and its lock is Nix's own."""

import subprocess
from pathlib import Path

import pytest

from mvmnix.builder.oci.image import describe_image, resolve_image
from mvmnix.builder.template import Template, template_tree, write_template
from mvmnix.system.output_files import OutputDirectory
from tests.conftest import OFFLINE, Home, own_store
from tests.unit.builder.oci.images import Memory, pushed

pytestmark = pytest.mark.integration

FEATURES = ("--extra-experimental-features", "nix-command flakes")
NIX = (*OFFLINE, "nix", *FEATURES, "--option", "substitute", "false", "--option", "flake-registry", "")


def nix(home: Home, *argv: str) -> str:
    environment = home.environment | own_store(home.path)
    done = subprocess.run([*NIX, *argv], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def image() -> bytes:
    registry, it = Memory(), pushed(b"layer", Cmd=["/bin/app"])
    return describe_image(resolve_image(registry.hold(it.document, image=it), registry))


@pytest.fixture(params=list(Template))
def flake(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    template = Template(request.param)
    target = tmp_path / "fresh"
    write_template(
        template_tree(template, target.name, image=image() if template is Template.OCI else None),
        OutputDirectory(str(target)),
    )
    return target


def test_it_evaluates_with_the_lock_as_it_is(flake: Path, home: Home) -> None:
    argv = ("eval", "--raw", "--no-update-lock-file", f"path:{flake}#packages.x86_64-linux.default.drvPath")
    assert nix(home, *argv).endswith("-guest-fresh.drv")


def test_nix_would_lock_it_the_same(flake: Path, home: Home) -> None:
    written = (flake / "flake.lock").read_bytes()
    nix(home, "flake", "lock", f"path:{flake}")
    assert (flake / "flake.lock").read_bytes() == written
    (flake / "flake.lock").unlink()
    (flake / "flake.lock").write_bytes(written.replace(b"./mvmnix", b"./other"))
    nix(home, "flake", "lock", f"path:{flake}")
    assert (flake / "flake.lock").read_bytes() == written
