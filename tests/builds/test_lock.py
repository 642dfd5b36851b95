"""`mvm lock` as a user has it: a real builder VM, archives from a loopback web server, a lock that Nix takes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Home, World, commit
from tests.git_server import TreeServer, serve
from tests.integration.locking import HostNix, archive, write
from tests.sample import sample

pytestmark = pytest.mark.vm

LEAF = "{ outputs = _: { }; }"
FLAKE = """
{
  inputs.far.url = "ORIGIN/far.tar.gz";
  inputs.far.inputs.deep.follows = "near";
  inputs.near.url = "path:./near";
  inputs.plain = { url = "ORIGIN/plain"; flake = false; };
  outputs = { self, far, near, plain }: { word = far.word + near.word + builtins.readFile plain; };
}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TreeServer]:
    with serve(tmp_path_factory.mktemp("none")) as server:
        far = '{ inputs.deep.url = "path:./deep"; outputs = { deep, ... }: { word = "far and ${deep.word}"; }; }'
        server.files["/far.tar.gz"] = archive({"flake.nix": far, "deep/flake.nix": LEAF})
        server.files["/plain"] = b"plain"
        yield server


@pytest.fixture(scope="module")
def user(world: World, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Somebody with a configuration of their own."""
    return world.copy(tmp_path_factory.mktemp("user") / "home").home


@pytest.fixture
def checkout(tmp_path: Path, served: TreeServer) -> Path:
    """A git work tree with a flake that has no lock yet."""
    where = tmp_path / "flake"
    near = '{ outputs = _: { word = "near "; }; }'
    write(where, {"flake.nix": FLAKE.replace("ORIGIN", served.origin), "near/flake.nix": near})
    commit(where)
    return where


def git(where: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", where, *arguments], check=True, capture_output=True).stdout.decode().strip()


def test_a_lock_is_made_that_nix_takes_and_would_have_made(
    user: Home, checkout: Path, served: TreeServer, tmp_path: Path
) -> None:
    user.list_server(served.origin)
    made = user.mvm("lock", "--json", cwd=checkout)
    assert made.returncode == 0, made.stderr.decode()
    said = json.loads(made.stdout)["result"]
    assert (said["lock"], said["written"]) == (str(checkout / "flake.lock"), True)
    assert [change["input"] for change in said["changes"]] == ["far", "far/deep", "near", "plain"]
    assert git(checkout, "status", "--porcelain") == "?? flake.lock"
    lock = (checkout / "flake.lock").read_bytes()
    (checkout / "flake.lock").unlink()
    nix = HostNix(tmp_path / "nix")
    nix("flake", "lock", f"path:{checkout}")
    assert (checkout / "flake.lock").read_bytes() == lock
    git(checkout, "add", "flake.lock")
    word = nix("eval", "--raw", "--no-update-lock-file", f"git+file://{checkout}#word")
    assert word == b"far and near near plain"


def test_what_may_not_be_fetched_is_not_asked(user: Home, checkout: Path) -> None:
    (user.config / "config.toml").unlink(missing_ok=True)
    refused = user.mvm("lock", cwd=checkout)
    assert refused.returncode == 126
    assert b"[fetch-not-allowed]" in refused.stderr
    assert not (checkout / "flake.lock").exists()


def test_relative_inputs_need_no_network_and_no_configuration(user: Home, tree: Path, tmp_path: Path) -> None:
    """What Nix made of examples/hello is made again, byte for byte."""
    where = tmp_path / "tree"
    git(tmp_path, "clone", "-q", str(tree), str(where))
    lock = where / "examples/hello/flake.lock"
    expected = lock.read_bytes()
    kept = user.mvm("lock", "--json", "examples/hello", cwd=where)
    assert json.loads(kept.stdout)["result"]["written"] is False
    lock.unlink()
    made = user.mvm("lock", "examples/hello", cwd=where)
    assert made.returncode == 0, made.stderr.decode()
    assert lock.read_bytes() == expected
    assert git(where, "status", "--porcelain") == ""


#: What a hostile flake.nix has for inputs, and a word of why no lock is made of it.
HOSTILE = {
    "let x = x; in x": "infinite recursion",
    "let f = n: f (n + 1) + 1; in f 0": "stack overflow",
    "let x = { a.inputs = x; }; in x": "too deep",
    "x: x": "lambda",
    "{ a.url = x: x; }": "lambda",
    '{ a = derivation { name = "a"; system = "x"; builder = "/bin/sh"; }; }': "inputs.a",
    """{ a.url = builtins.foldl' (t: _: t + t) "0123456789" (builtins.genList (x: x) 24); }""": "longer than",
    "{ a.url = builtins.readFile /etc/passwd; }": "pure evaluation mode",
    '{ a.url = builtins.readFile (builtins.fetchurl "ORIGIN/plain"); }': "pure evaluation mode",
    """let n = builtins.genList (x: x) 100000; sum = builtins.foldl' (a: b: a + b) 0;
    in { a.flake = sum (map (_: sum n) n) == 1; }""": "seconds",
    '{ a.url = "path:" + "./a"; }': "Nix would lock it otherwise",
    '{ a.url = "nixpkgs"; }': "registry",
    '{ a.url = "path:/etc"; }': "one machine",
    '{ a.url = "path:../../etc"; }': "out of the flake's tree",
    '{ a = { url = "path:./a"; inputs.b.url = "x y"; }; }': "x y",
}


@pytest.mark.parametrize("inputs", sample([*HOSTILE], 3))
def test_a_hostile_flake_is_refused_and_ends(user: Home, tmp_path: Path, served: TreeServer, inputs: str) -> None:
    text = f"{{ inputs = {inputs.replace('ORIGIN', served.origin)}; outputs = _: {{ }}; }}"
    write(tmp_path / "flake", {"flake.nix": text, "a/flake.nix": LEAF})
    refused = user.mvm("lock", f"path:{tmp_path / 'flake'}")
    assert refused.returncode == 126, refused.stderr.decode()
    assert HOSTILE[inputs] in refused.stderr.decode()
    assert not (tmp_path / "flake/flake.lock").exists()
