"""Somebody without root launches a real machine: no uid to give away, all the rest of the jail around it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvmnix.launch.hypervisor.confinement import Layer
from tests.conftest import TREE, World
from tests.vm.test_gap import carry, far_side, trusting

pytestmark = pytest.mark.vm

USER = 61_000
#: mvm may lie where only root can read it, so all of it is imported first. The kernel keeps a process that changed its
#: uid from its own files under /proc until it says otherwise (PR_SET_DUMPABLE).
PLAINLY = """
import ctypes, importlib, os, pkgutil, sys
import mvmnix
for module in pkgutil.walk_packages(mvmnix.__path__, "mvmnix."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
from mvmnix.cli.main import main
main()
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that somebody else can reach, which those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-plain-") as name:
        yield Path(name)


def plainly(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(TREE), "LANG": "C.UTF-8"}
    argv = [sys.executable, "-P", "-c", PLAINLY, str(USER), *map(str, arguments)]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, timeout=600, check=False)


def test_a_machine_without_root(copied: World, open_place: Path) -> None:
    carried = open_place / "carried"
    carried.mkdir()
    far = far_side(open_place / "far", trusting(copied))
    carry(copied, carried)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", open_place], check=True)
    launch = ("launch", "--image", carried / "image", "--vsa", carried / "vsa.json", carried / "plan.json")
    done = plainly(far.path, *launch)
    assert (done.returncode, done.stdout) == (0, b"Hello from a verified microVM.\n"), done.stderr.decode()
    (receipt,) = far.path.rglob("receipt.sigstore.json")
    assert receipt.stat().st_uid == USER
    said = json.loads(
        plainly(
            far.path,
            "verify",
            "--print-provenance",
            "--key",
            host_key(far.path),
            "--bundle",
            receipt,
            carried / "image/kernel",
        ).stdout
    )
    layers = said["predicate"]["observedByHost"]["confinement"]
    assert {Layer.NAMESPACES, Layer.SECCOMP} <= set(layers)
    assert Layer.OWN_UID not in layers
    assert plainly(far.path, "audit", "verify").returncode == 0


def host_key(home: Path) -> Path:
    key = home / "host.pub"
    key.write_bytes(plainly(home, "key", "show", "host").stdout)
    return key
