"""The three kinds of Nix stores with this machine's Nix: a user's own, the machine's, and a nix-daemon's."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.nix.store_choice import NixStore, StoreKind
from mvmnix.digest import Digest
from mvmnix.model import Source, StorePath
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import ProcessError  # noqa: F401 - for the script below
from mvmnix.system.roots import Roots
from mvmnix.system.store import Store
from tests.repository import ROOT

pytestmark = pytest.mark.integration

DATA = b"mvmnix test: what is put into a store"
SOURCE = Source("mirror://debian/pool/t/t_1_all.deb", "t_1_all.deb", Digest.of(DATA))
#: It sees its own inputs and outputs by their usual names, and nothing of the machine's.
RECIPE = """derivation {
  name = "mvmnix-test-sandboxed";
  system = "x86_64-linux";
  builder = "/bin/sh";
  args = [ "-c" "read line < ${builtins.toFile "input" "hello\\n"}; [ ! -e /usr ]; echo $line $? > $out" ];
}
"""


@pytest.fixture
def own(tmp_path: Path) -> HostNix:
    """This machine's Nix on a store of the user's own, whatever else there is."""
    found = HostNix.find(Roots.from_environment({"HOME": str(tmp_path / "home")}))
    root = tmp_path / "a store? of #1 & its owner's"
    root.mkdir(mode=0o700)
    return HostNix(found.nix, found.nix_store, NixStore(StoreKind.OWN, "for this test", str(root)))


def built(host: HostNix, recipe: Path) -> StorePath:
    words = nix_commands.host_build(host.nix, SOURCE.store_path)
    said = host.run([*words[: words.index("--")], "-f", str(recipe)])
    return StorePath.parse(json.loads(said)[0]["outputs"]["out"])


def test_a_store_of_ones_own_takes_files_and_builds_in_a_sandbox(own: HostNix, tmp_path: Path) -> None:
    """By the usual names; nothing of it is in /nix, or anywhere else but below its root."""
    with Directory.create(str(tmp_path / "sources")) as directory:
        kept = Store(directory)
        kept.put(DATA, SOURCE.digest)
        assert add_to_nix(own, [SOURCE], kept) == (SOURCE.store_path,)
        assert add_to_nix(own, [SOURCE], kept) == ()
    assert own.store.on_host(SOURCE.store_path).read_bytes() == DATA
    assert not Path(str(SOURCE.store_path)).exists()
    recipe = tmp_path / "recipe.nix"
    recipe.write_text(RECIPE)
    output = built(own, recipe)
    assert own.store.on_host(output).read_text() == "hello 0\n"
    assert not Path(str(output)).exists()
    written = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert written == {"sources", "recipe.nix", Path(own.store.root).name}


def test_mvm_in_the_namespace_of_such_a_store_refuses(tmp_path: Path) -> None:
    """As `nix shell` and `nix run` make it, for a plain user: only their uid exists in it."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-own-") as place:
        recipe = Path(place, "recipe.nix")
        recipe.write_text(RECIPE)
        nix_ = ["nix", "--extra-experimental-features", "nix-command", "--store", f"{place}/store"]
        options = ["--option", "build-users-group", "", "--option", "substitute", "false"]
        user: list[str] = []
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "61000:61000", place], check=True)
            user = ["setpriv", "--reuid", "61000", "--regid", "61000", "--clear-groups"]
        # mvm itself may lie where only root can read it
        look = (
            "import sys; from mvmnix.errors import RefusedError\n"
            "from mvmnix.system.unmapped_owners import refuse_unmapped\n"
            "try: refuse_unmapped()\n"
            "except RefusedError as refusal: sys.exit(refusal.codes[0])\n"
        )
        files = ("__init__.py", "system/__init__.py", "system/unmapped_owners.py", "errors.py", "plural.py")
        Path(place, "mvmnix/system").mkdir(parents=True)
        for name in files:
            Path(place, "mvmnix", name).write_bytes((ROOT / "mvmnix" / name).read_bytes())
        inside = [*nix_, *options, "shell", "-f", str(recipe), "-c", "/usr/bin/python3", "-P", "-c", look]
        environment = {"HOME": place, "PATH": "/usr/bin:/bin", "PYTHONPATH": place}
        done = subprocess.run([*user, *inside], env=environment, cwd="/", capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "namespace-unusable", done.stderr


def test_without_namespaces_nothing_is_built_unsandboxed(own: HostNix, tmp_path: Path) -> None:
    """Nix's own fallback would go on without a sandbox."""
    recipe = tmp_path / "recipe.nix"
    recipe.write_text(RECIPE)
    script = (
        "import sys; from tests.integration.test_host_stores import *\n"
        "own = HostNix(*sys.argv[1:3], NixStore(StoreKind.OWN, '', sys.argv[3]))\n"
        "try: built(own, Path(sys.argv[4]))\n"
        "except ProcessError as error: sys.exit(str('namespaces' in error.message))\n"
    )
    # Nix's user namespace can't be made in one where their number is used up (user_namespaces(7))
    limited = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-euc", limited, "sh", sys.executable, "-P", "-c", script]
    done = subprocess.run(
        [*argv, own.nix, own.nix_store, own.store.root, recipe],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (1, ["True"]), done.stderr
    assert not list(Path(own.store.root).glob("nix/store/*sandboxed"))


as_root = pytest.mark.root("only root can put another /nix over the machine's")
#: Run by a user, who may lie anywhere: which store there is, and a file that is put into it and read again.
PUT: str = """
import sys, tempfile, os
from tests.integration.test_host_stores import *
if len(sys.argv) > 1:
    os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
with tempfile.TemporaryDirectory() as home, Directory.create(home + "/sources") as directory:
    kept = Store(directory)
    kept.put(DATA, SOURCE.digest)
    host = HostNix.find(Roots.from_environment({"HOME": home}))
    add_to_nix(host, [SOURCE], kept)
    recipe = Path(home, "recipe.nix")
    recipe.write_text(RECIPE)
    assert host.store.on_host(SOURCE.store_path).read_bytes() == DATA
    assert host.store.on_host(built(host, recipe)).read_text() == "hello 0\\n"
    print(host.store.kind, host.store.why)
"""
#: A /nix in memory, with a daemon of root's in front of it.
DAEMON = """
mount -t tmpfs -o mode=755 none /nix
NIX_CONFIG="build-users-group =
allowed-users = $1" nix --extra-experimental-features nix-command daemon & daemon=$!
trap 'kill $daemon' EXIT
n=0; until [ -S /nix/var/nix/daemon-socket/socket ] || [ $n -ge 300 ]; do sleep 0.1; n=$((n + 1)); done
shift
"$@"
"""


def elsewhere(script: str, *words: str, user: int | None = None) -> tuple[str, str]:
    """The kind of store that a process has chosen and used beside what a script of root's mounted, and why."""
    uid = () if user is None else (str(user),)
    argv = ["unshare", "--mount", "sh", "-euc", script, "sh", *words, sys.executable, "-P", "-c", PUT, *uid]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    kind, _, why = done.stdout.strip().partition(" ")
    return kind, why


@as_root
def test_a_plain_user_uses_a_daemon() -> None:
    assert elsewhere(DAEMON, "*", user=61_000)[0] == "daemon"


@as_root
def test_a_plain_user_whom_the_daemon_turns_away_has_a_store_of_their_own() -> None:
    kind, why = elsewhere(DAEMON, "root", user=61_000)
    assert kind == "own"
    assert "its nix-daemon can't be used (error: " in why


@as_root
@pytest.mark.parametrize("owner", [61_000, 0])
def test_an_unprivileged_uid_shares_a_store_that_it_may_write_to(owner: int) -> None:
    empty = f'mount -t tmpfs -o mode=755,uid={owner} none /nix; "$@"'
    assert elsewhere(empty, user=61_000)[0] == ("shared" if owner else "own")
