"""Flakes that must not be built: dirty, unlocked, locked otherwise; found on the host, or by a builder VM."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from tests.conftest import World, commit
from tests.hostile.rig import Rig, export_commit, flipped, replaced
from tests.workbench import Workbench, tiny_tree

pytestmark = pytest.mark.vm

HELLO = "examples/hello"


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree's files without a repository; not to be changed."""
    target = tmp_path_factory.mktemp("files") / "tree"
    export_commit(world.tree, target)
    return target


@pytest.fixture
def checkout(files: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    return Path(shutil.copytree(files, tmp_path / "tree"))


# Found on the host


def test_a_dirty_tree(rig: Rig, checkout: Path) -> None:
    commit(checkout)
    with (checkout / HELLO / "flake.nix").open("a") as file:
        file.write("# changed\n")
    assert rig.told("run", HELLO, cwd=checkout) == {Code.FLAKE_DIRTY}
    assert rig.told("build", HELLO, cwd=checkout) == {Code.FLAKE_DIRTY}
    assert rig.told("plan", "create", HELLO, cwd=checkout) == {Code.FLAKE_DIRTY}


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_dirty_index(rig: Rig, checkout: Path, change: str) -> None:
    commit(checkout)
    if change == "added":
        (checkout / "new").write_text("new")
        subprocess.run(["git", "-C", checkout, "add", "new"], check=True)
    else:
        (checkout / "README.md").unlink()
    assert rig.told("run", HELLO, cwd=checkout) == {Code.FLAKE_DIRTY}


def test_what_is_no_commit(rig: Rig, checkout: Path) -> None:
    assert rig.told("run", HELLO, cwd=checkout) == {Code.FLAKE_UNSUPPORTED}
    commit(checkout)
    assert rig.told("run", "examples", cwd=checkout) == {Code.FLAKE_UNSUPPORTED}, "no flake.nix there"


def node(text: str) -> bytes:
    """A lock with one input, locked like this."""
    return f'{{"nodes":{{"root":{{"inputs":{{"x":"x"}}}},"x":{text}}},"root":"root","version":7}}'.encode()


LOCKED = '{"locked":{"type":"tarball","url":"https://host/x.tar.gz",%s},"original":{"type":"tarball"}}'
NAR = '"narHash":"sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="'


# one for each reason, a password and a place of this machine; others are rows of tests/unit/formats/test_lock.py
@pytest.mark.parametrize(
    ("lock", "code"),
    [
        pytest.param(b"", Code.LOCK_MALFORMED, id="empty"),
        pytest.param(node(LOCKED % '"rev":""'), Code.FLAKE_UNLOCKED, id="no hash"),
        pytest.param(node(LOCKED % f'{NAR},"dirtyRev":"x-dirty"'), Code.FLAKE_DIRTY, id="locked from a dirty tree"),
        pytest.param(node(LOCKED.replace("host", "u:p@host") % NAR), Code.LOCK_NODE_UNSUPPORTED, id="a password"),
        pytest.param(
            node('{"locked":{"type":"path","path":"/home/me"},"original":{"type":"path"}}'),
            Code.LOCK_NODE_UNSUPPORTED,
            id="a place on one machine",
        ),
    ],
)
def test_a_lock_that_names_no_fixed_sources(rig: Rig, tmp_path: Path, lock: bytes, code: Code) -> None:
    flake = tmp_path / "flake"
    flake.mkdir()
    (flake / "flake.nix").write_text("{ outputs = _: { }; }")
    (flake / "flake.lock").write_bytes(lock)
    assert rig.told("run", f"path:{flake}") == {code}


# Found in a builder VM, which is asked to evaluate


def text(old: str, new: str, name: str = "flake.nix") -> Callable[[Path], object]:
    """Replace something in a file of hello's."""

    def change(flake: Path) -> None:
        before = (flake / name).read_text()
        assert old in before
        (flake / name).write_text(before.replace(old, new))

    return change


INPUT = 'inputs.mvmnix.url = "path:../..";'
NAME = 'name = "hello";'
TOUCHES = f'{NAME} environment.X = builtins.readFile "${{mvmnix.inputs.nixpkgs}}/flake.nix";'

FLAKES: dict[str, tuple[Callable[[Path], object], Code]] = {
    "no lock": (lambda flake: (flake / "flake.lock").unlink(), Code.FLAKE_UNLOCKED),
    "an input that moved": (text("path:../..", "github:other/repository"), Code.LOCK_STALE),
    "an input that moved within the tree": (text('"path:../.."', '"path:../../."'), Code.LOCK_STALE),
    "an input more": (text(INPUT, f'{INPUT} inputs.more.url = "github:a/b";'), Code.LOCK_STALE),
    "an input more within the tree": (text(INPUT, f'{INPUT} inputs.more.url = "path:../..";'), Code.LOCK_STALE),
    "an input less": (text(INPUT, ""), Code.LOCK_STALE),
    "a locked tree that nobody fetches": (text(NAME, TOUCHES), Code.FETCH_NOT_ALLOWED),
    "a fetcher without a hash": (
        text(NAME, f'{NAME} environment.X = builtins.readFile (builtins.fetchurl "https://host/x");'),
        Code.FLAKE_UNLOCKED,
    ),
    "a fetcher with a hash": (
        text(
            NAME,
            f"{NAME} environment.X = builtins.readFile (builtins.fetchurl {{"
            ' url = "https://host/x"; sha256 = "0000000000000000000000000000000000000000000000000000"; });',
        ),
        Code.FLAKE_UNSUPPORTED,
    ),
    "a file of the machine's": (
        text(NAME, f"{NAME} environment.X = builtins.readFile /etc/passwd;"),
        Code.FLAKE_UNLOCKED,
    ),
    "an import of something built": (
        text(
            NAME,
            f'{NAME} environment.X = builtins.readFile (derivation {{ name = "x"; system = "x86_64-linux";'
            ' builder = "/bin/sh"; });',
        ),
        Code.FLAKE_UNSUPPORTED,
    ),
}


@pytest.mark.parametrize("row", FLAKES)
def test_an_evaluation_that_needs_what_is_not_locked(workbench: Workbench, checkout: Path, row: str) -> None:
    change, code = FLAKES[row]
    change(checkout / HELLO)
    assert workbench.refusal(f"path:{checkout}?dir={HELLO}") == {code}


@pytest.mark.parametrize("parameter", ["a b", 'a=\\"b c\\"', "a\\nb", "", "ü"])
def test_a_kernel_parameter_that_smuggles(workbench: Workbench, checkout: Path, parameter: str) -> None:
    text(NAME, f'{NAME} kernelParameters = [ "{parameter}" ];')(checkout / HELLO)
    error = workbench.failure(f"path:{checkout}?dir={HELLO}")
    assert "'kernelParameters' must be a list of kernel parameters" in error.message


def test_the_same_by_command(rig: Rig, checkout: Path) -> None:
    """A representative: the builder VM starts, the user's machine doesn't."""
    FLAKES["an input that moved"][0](checkout / HELLO)
    done = rig.home.mvm("run", f"path:{checkout}?dir={HELLO}")
    assert done.returncode == 126, done.stderr.decode()
    assert b"refused [lock-stale]" in done.stderr
    assert done.stdout == b""
    started = {it.read_text() for it in (rig.home.state / "machines").glob("*/machine.json")}
    assert sum('"image":"hello"' in it for it in started) == 1, "that of the world"


def test_a_pin_with_other_bytes(rig: Rig, world: World, tmp_path: Path) -> None:
    """Its name in the store is a promise that nobody trusts: the bytes are hashed when a builder asks for them."""
    sources = Path(world.home.environment["XDG_CACHE_HOME"]) / "mvmnix/sources"
    mine = tmp_path / "cache/mvmnix/sources"
    mine.mkdir(parents=True, mode=0o700)
    for directory in (mine, mine.parent, mine.parents[1]):
        directory.chmod(0o700)
    for pin in sources.glob("[!.]*"):  # what is still on its way has a dot
        (mine / pin.name).hardlink_to(pin)
    broken = rig.built.sources[0].digest.hex
    good = (mine / broken).read_bytes()
    replaced(mine / broken, flipped(good, len(good) // 2))
    tree = ("--again", f"./{HELLO}")
    done = rig.home.mvm("build", *tree, cwd=rig.world.tree, env={"XDG_CACHE_HOME": tmp_path / "cache"})
    assert done.returncode == 126, done.stderr.decode()
    assert b"refused [source-mismatch]" in done.stderr
    assert broken.encode() in done.stderr
    assert b"mvm pin fetch" in done.stderr
    assert Digest.of((sources / broken).read_bytes()).hex == broken, "the good one is untouched"
    rig.runs()


def test_a_build_that_needs_nothing(workbench: Workbench, world: World, tmp_path: Path) -> None:
    """The twin of the rows: without inputs there is nothing to lock."""
    flake = tiny_tree(
        world, tmp_path / "tiny", "{ outputs = _: { packages.x86_64-linux.default = throw ''words''; }; }"
    )
    assert "words" in workbench.failure(f"path:{flake}").message
