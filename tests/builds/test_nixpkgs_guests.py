"""A guest of nixpkgs' packages, from its flake in a builder VM to its output: a stand-in is the nixpkgs."""

from pathlib import Path

import pytest

from mvmnix.formats import manifest
from tests.conftest import World, commit
from tests.standin import EVERYTHING, copy_of, put_guest

pytestmark = pytest.mark.vm

LOOK = 'cat "$LOCALES" "$(cut -d " " -f 2 /etc/motd)"; ls /nix/store | cut -d - -f 2- | sort'


def test_a_program_of_the_closure_runs_on_parts_of_nixpkgs(copied: World, tmp_path: Path) -> None:
    """Kernel, modules, busybox and tools are the stand-in's too; each word that names a store path finds it there."""
    tree = copy_of(copied.tree, tmp_path / "tree")
    guest = put_guest(tree, EVERYTHING)
    commit(tree)
    mvm = copied.home.mvm
    run = mvm("run", f"./{guest}", cwd=tree)
    assert (run.stdout, run.returncode) == (b"Hello, world!\n", 0), run.stderr.decode()
    inside = mvm("run", f"./{guest}", "--", "/bin/sh", "-c", LOOK, cwd=tree)
    closure = ["busybox", "busybox-applets", "greeting", "hello", "locales", "motd"]
    assert inside.stdout.decode().split() == ["locales", "motd", *closure], inside.stderr.decode()
    built = mvm("build", f"./{guest}", "--out", tmp_path / "out", cwd=tree)
    assert built.returncode == 0, built.stderr.decode()
    assert manifest.parse((tmp_path / "out/manifest.json").read_bytes()).sources == ()
