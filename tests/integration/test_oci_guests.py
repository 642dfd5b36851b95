"""The Nix side of OCI images through this machine's own Nix and erofs-utils: file systems and options."""

import io
import json
import subprocess
from pathlib import Path

import pytest

from modules.oci.emit import emit
from tests.conftest import own_store
from tests.repository import ROOT
from tests.unit.modules.oci.layers import archive, file, folder, hard_link, merge, symlink

pytestmark = pytest.mark.integration

IMAGE = {
    "name": "app",
    "command": ["app"],
    "directory": "/",
    "user": "",
    "environment": {},
    "volumes": ["/data"],
    "pins": [],
    "layers": [],
}


def erofs(layer: bytes, target: Path) -> bytes:
    """The file system, as modules/oci/rootfs.nix has it made."""
    tar = io.BytesIO()
    emit(merge(layer).root, [io.BytesIO(layer)], tar.write)
    argv = ["mkfs.erofs", "--quiet", "--tar=f", "-T0", "-U", "00000000-0000-0000-0000-000000000000", "-x-1", "-zlz4"]
    subprocess.run([*argv, target], input=tar.getvalue(), check=True)
    return target.read_bytes()


def test_the_file_system_is_the_tree(tmp_path: Path) -> None:
    """Long names, odd names and hard links reach the file system, and the same layer makes the same bits."""
    long, odd = "d" * 255 + "/" + "e" * 250, "a\nb\udcff"
    layer = archive(
        folder("./", mode=0o750),
        file("b", b"1" * 10_000, mode=0o640),
        hard_link("z", "b"),
        file(long, b"2", mode=0o4755),
        symlink("l", "../" * 300 + "x"),
        file(odd, b"3"),
        folder("t", mode=0o1777),
    )
    made = erofs(layer, tmp_path / "first")
    assert erofs(layer, tmp_path / "second") == made
    tree = tmp_path / "tree"
    extract = ["fsck.erofs", f"--extract={tree}", "--no-preserve-owner", "--preserve-perms"]
    subprocess.run([*extract, tmp_path / "first"], check=True, capture_output=True)
    assert (tree / "b").read_bytes() == b"1" * 10_000
    assert (tree / "b").stat().st_ino == (tree / "z").stat().st_ino
    assert (tree / long).read_bytes() == b"2"
    assert (tree / odd).read_bytes() == b"3"
    assert str((tree / "l").readlink()) == "../" * 300 + "x"
    modes = {name: (tree / name).stat().st_mode & 0o7777 for name in (".", "b", long, "t")}
    assert modes == {".": 0o750, "b": 0o640, long: 0o755, "t": 0o1777}


def evaluated(expression: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """What an expression over `make`, which is mkOciGuest with an image, evaluates to."""
    (tmp_path / "image.json").write_text(json.dumps(IMAGE))
    house = f'(import {ROOT}/modules {{ system = "x86_64-linux"; }})'
    make = f"options: {house}.mkOciGuest (options // {{ image = {tmp_path}/image.json; }})"
    argv = ["nix-instantiate", "--eval", "--read-write-mode", "-E", f"let make = {make}; in {expression}"]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "NIX_CONFIG": "build-users-group ="}
    environment |= own_store(tmp_path)
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_a_flake_may_set_more(tmp_path: Path) -> None:
    done = evaluated('(make { memoryMiB = 96; posture = "sealed"; environment.A = "1"; }).name', tmp_path)
    assert (done.stdout, done.returncode) == ('"guest-app"\n', 0), done.stderr


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    done = evaluated('(make { packages = _: [ ]; files = { }; command = "x"; memoryMiB = 1; }).name', tmp_path)
    assert done.returncode != 0
    for why in (
        "mkOciGuest: there is no option 'files'",
        "there is no option 'packages'",
        "'command' must be a list of strings",
        "'memoryMiB' must be between",
    ):
        assert why in done.stderr


@pytest.mark.parametrize(("options", "expected"), [("{ }", True), ("{ network = false; }", False)])
def test_a_plan_may_put_it_into_a_network_unless_its_flake_says_no(
    tmp_path: Path, options: str, *, expected: bool
) -> None:
    """In the manifest, for the modules in the initrd, and for who applies the layers."""
    said = "it: [ it.manifest it.initrd.name ]"
    done = evaluated(f"builtins.toJSON (({said}) (make {options}))", tmp_path)
    assert done.returncode == 0, done.stderr
    path, initrd = json.loads(json.loads(done.stdout))
    assert initrd == ("initrd-network" if expected else "initrd")
    image = evaluated(f"builtins.readFile (make {options}).manifest", tmp_path)
    assert ('"network":true' in json.loads(image.stdout)) is expected, path
