"""Root's state goes to a user by the very commands that `mvm doctor` prints: a shell runs them, the user works on.

The user is in a password file of the test's own, which a mount namespace has; nothing is added to the machine's.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.api.context import LIBRARY_LOCK
from mvmnix.model import Digest
from mvmnix.private_dirs import Directory
from tests.conftest import TREE, Home, World, make_home
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root("root's state: only root has it, and moves it"),
]
UID = 43_210
USER = "mover"
IN_NAMESPACE = 'mount --bind "$1" /etc/passwd; shift; exec "$@"'
#: Where the commands have a directory of their own.
STAGES = Path("/var/lib")


@dataclass(frozen=True)
class Move:
    """Root with a home, and a user with another, in a directory that everybody may pass."""

    root: Home
    user: Home
    passwd: Path

    def run(self, argv: Sequence[str | bytes | Path], env: dict[str, str], stdin: str = "") -> "Said":
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", IN_NAMESPACE, "sh", self.passwd, *argv],
            env=env | {"PYTHONPATH": str(TREE)},
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def as_root(self, *arguments: str | Path, **variables: str) -> "Said":
        """`mvm`, as root called by sudo."""
        return self.run(Home.argv(*arguments), self._environment(self.root) | {"SUDO_USER": USER} | variables)

    def as_user(self, *arguments: str | Path) -> "Said":
        rights = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return self.run([*rights, *Home.argv(*arguments)], self._environment(self.user))

    def paste(self, commands: str) -> "Said":
        """Into a shell of root's; as a terminal does, the text comes on standard input."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.run(["bash"], {"HOME": str(self.root.path), "PATH": path}, stdin=commands)

    def offered(self, **variables: str) -> str:
        """The lines that `mvm doctor` prints for it."""
        said = self.as_root("doctor", **variables)
        lines = said.out[said.out.index("• root's state ") :].splitlines()
        return "\n".join(line for line in lines if line.startswith("    ")) + "\n"

    @staticmethod
    def _environment(home: Home) -> dict[str, str]:
        return home.environment | {"XDG_CACHE_HOME": str(home.path / ".cache"), "COLUMNS": "80"}


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    tmp_path.chmod(0o700)
    with tempfile.TemporaryDirectory(prefix="mvmnix-move-") as open_to_all:
        base = Path(open_to_all)
        base.chmod(0o755)
        user = make_home(base / "home")
        os.chown(user.path, UID, UID)
        passwd = base / "passwd"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}{USER}:x:{UID}:{UID}::{user.path}:/bin/sh\n")
        before = set(STAGES.glob("mvmnix-move.*"))
        yield Move(Home(tmp_path / "root"), user, passwd)
        for left in set(STAGES.glob("mvmnix-move.*")) - before:
            shutil.rmtree(left)


@pytest.fixture
def small(move: Move) -> Move:
    """Root has a key alone."""
    make_home(move.root.path)
    assert move.as_root("key", "create", "host").code == 0
    return move


def content(home: Home) -> dict[str, tuple[int, Digest | None]]:
    """Modes, and the bytes of files, by their paths in a home."""
    found = {}
    for place in (".config", ".local/state", ".cache"):
        for path in sorted((home.path / place / "mvmnix").rglob("*")):
            file = Digest.of(path.read_bytes()) if path.is_file() else None
            found[str(path.relative_to(home.path))] = path.lstat().st_mode, file
    return found


def owners(home: Home) -> set[tuple[int, int]]:
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (home.path, *home.path.rglob("*"))}


#: Of a user's directory; what is in it is fetched again, so it stays root's.
STORE = Path(".local/share/mvmnix/nix")


def former(move: Move, world: World) -> Path:
    """Root has the world, and ran its image with an anchor for the log: that one's directory."""
    # no hard links: to give one of them away would give the world's file away
    shutil.copytree(world.home.path, move.root.path, symlinks=True, ignore=shutil.ignore_patterns("nix"))
    (move.root.path / STORE).mkdir(parents=True)
    anchor = move.passwd.parent / "anchor"
    anchor.mkdir(mode=0o700)
    config = move.root.config / "config.toml"
    config.write_text(f'version = 1\n[[anchors]]\nname = "usb"\nrequired = true\nfile = "{anchor}/checkpoint"\n')
    config.chmod(0o600)
    ran = move.as_root("run", "--no-rm", "--name", "kept", "image:hello", MVMNIX_GRANT=str(anchor))
    assert (ran.code, ran.out) == (0, "Hello from a verified microVM.\n"), ran.err
    return anchor


def test_a_user_works_on_with_root_s_state(move: Move, world: World) -> None:
    """Keys, policy, log with its anchor, receipts and images: as they were, and nothing is built again."""
    anchor = former(move, world)
    key, commands, before = move.as_root("key", "show", "host").out, move.offered(), content(move.root)
    assert "then chown -fh mover: " in commands.splitlines()[-1], "what gives the anchor away"
    pasted = move.paste(commands)
    assert (pasted.code, pasted.err) == (0, "")
    assert "now as mover: mvm audit verify && mvm doctor" in pasted.out
    assert content(move.user) == before
    assert owners(move.user) == {(UID, UID)}
    assert (anchor / "checkpoint").stat().st_uid == UID
    assert (move.root.path / STORE).is_dir()
    assert content(move.root) == {}
    works(move.as_user, key)
    refused_now(move)


def works(as_user: Callable[..., Said], key: str) -> None:
    """The user verifies everything, and runs the image."""
    assert as_user("key", "show", "host").out == key
    assert as_user("policy", "check").code == 0
    verified = as_user("audit", "verify", "--pinned", "anchor:usb")
    assert verified.code == 0, verified.err
    shown = as_user("show", "kept")
    assert (shown.code, "attested by ✓ receipt of " in shown.out) == (0, True), shown.err
    ran = as_user("run", "image:hello")
    assert (ran.code, ran.out) == (0, "Hello from a verified microVM.\n"), ran.err
    assert "building" not in ran.err
    assert as_user("audit", "verify").code == 0
    findings = {it["what"]: it for it in json.loads(as_user("doctor", "--json").out)["result"]}
    for what in ("keys", "trust policy", "audit log", "anchor usb"):
        assert findings[what]["health"] == "good", findings[what]
    assert not {"root's state", "files of root's"} & findings.keys()


def refused_now(move: Move) -> None:
    """Root has nothing to move any more; what root begins anew isn't mixed with what the user has."""
    assert "root's state" not in move.as_root("doctor").out
    assert move.as_root("key", "create", "host").code == 0
    held = content(move.user)
    refused = move.paste(move.offered())
    assert refused.code == 1
    assert f"nothing was moved: mover has {move.user.path}/.config/mvmnix already" in refused.err
    assert content(move.user) == held


def test_a_user_who_only_looked_has_nothing_to_lose(small: Move) -> None:
    """Commands that show something make directories and locks, which hold nothing."""
    assert small.as_user("ps").code == 0
    assert small.as_user("images").code == 0
    assert (small.user.state / "machines").is_dir()
    pasted = small.paste(small.offered())
    assert pasted.code == 0, pasted.err
    assert (small.user.config / "keys/host.pem").stat().st_uid == UID


def test_nothing_is_moved_while_mvm_is_at_work(small: Move) -> None:
    """A command, or a supervisor, that began after the commands were printed: both hold a lock."""
    commands = small.offered()
    with Directory.open(str(small.root.state)) as state, state.share(LIBRARY_LOCK):
        refused = small.paste(commands)
        assert "at work: process " in small.as_root("doctor").out.replace("\n", " ")
    assert (refused.code, refused.err) == (1, "nothing was moved: mvm of root is at work: mvm ps\n")
    assert (small.root.config / "keys/host.pem").is_file()
    assert small.paste(commands).code == 0


def test_a_link_of_the_user_s_leads_root_nowhere(small: Move) -> None:
    """Root would put a directory of the user's among the system's; the user's own process can't."""
    system = small.passwd.parent / "system"
    system.mkdir(mode=0o755)
    (small.user.path / ".local").mkdir()
    (small.user.path / ".local/state").symlink_to(system)
    pasted = small.paste(small.offered())
    assert pasted.code == 1
    assert list(system.iterdir()) == []
    assert "not finished: /var/lib/mvmnix-move." in pasted.err
    stage = Path(pasted.err.split("not finished: ")[1].split(" has what", 1)[0])
    assert (stage / ".config/mvmnix/keys/host.pem").stat().st_uid == UID, "keys are the last to arrive"
    assert not small.user.config.exists()
    # and what stopped half way can be gone on with there
    os.rename(stage, small.user.path / "stage")  # noqa: PTH104


@pytest.mark.parametrize(
    ("spoiled", "command", "recursive"),
    [
        (".config/mvmnix/keys/host.pem", ("key", "show", "host"), "-h"),
        (".config/mvmnix", ("key", "show", "host"), "-Rh"),
        (".config", ("key", "show", "host"), "-h"),
        (".local/state/mvmnix/machines", ("ps",), "-Rh"),
        (".local/state/mvmnix/library.lock", ("image", "prune"), "-h"),
        (".local/state", ("ps",), "-h"),
        (".cache/mvmnix/sources.lock", ("store", "gc"), "-h"),
    ],
)
def test_a_file_of_root_s_is_named_with_its_repair(
    small: Move, spoiled: str, command: tuple[str, ...], recursive: str
) -> None:
    """`sudo mvm` with the user's HOME left it there: the command says so, doctor too, and what it prints repairs it."""
    assert small.paste(small.offered()).code == 0
    small.as_user("image", "prune")
    small.as_user("store", "gc")
    path = small.user.path / spoiled
    os.chown(path, 0, 0)
    said = small.as_user(*command)
    assert said.code == 126, said.err
    assert f"mvm: {path}: refused [" in said.err
    assert "it belongs to uid 0 (root) and is closed to uid 43210 (mover)" in said.err
    assert f"sudo chown {recursive} mover: {path}" in said.err
    findings = {it["what"]: it for it in json.loads(small.as_user("doctor", "--json").out)["result"]}
    found = findings["files of root's"]
    assert (found["health"], found["said"]) == ("bad", f"1 file belongs to root: {path}")
    (repair,) = found["commands"]
    assert small.paste(repair.replace("sudo ", "")).code == 0
    assert owners(small.user) == {(UID, UID)}
    assert "closed to" not in small.as_user(*command).err


def test_root_with_a_user_s_home_is_told_to_be_that_user(small: Move) -> None:
    said = small.as_root("ps", HOME=str(small.user.path), XDG_CACHE_HOME="")
    assert said.code == 126
    assert f"{small.user.path}: refused [state-permissions]" in said.err
    assert "run mvm as that user, without sudo" in said.err
    assert "chown" not in said.err
