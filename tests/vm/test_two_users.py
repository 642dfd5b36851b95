"""Two users without root on one machine, each with machines at once, and nothing shared but the kernel.

Two machines each; `make soak` takes ten each.
"""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.system import procfs
from tests.conftest import World, left_out
from tests.patience import PATIENCE, until
from tests.repository import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.root("only root can become two users")]

#: Machines of each user.
EACH = min(10, int(os.environ.get("MVMNIX_SOAK_AT_ONCE", "4")) // 2)
SPACES = ("mnt", "pid", "ipc", "uts", "net", "user", "cgroup")
#: mvm may lie where only root can read it, so all of it is imported first. The kernel keeps a process that changed its
#: uid from its own files under /proc until it says otherwise (PR_SET_DUMPABLE).
PLAINLY = """
import importlib, os, pkgutil, sys
import mvmnix
from mvmnix.system.prctl import set_dumpable
for module in pkgutil.walk_packages(mvmnix.__path__, "mvmnix."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
set_dumpable(dumpable=True)
from mvmnix.cli.main import main
main()
"""
#: The users are in files of the test's own, which lie over the host's in a mount namespace.
KNOWN = ("passwd", "subuid", "subgid")
OVER = 'from=$1; shift; for name in passwd subuid subgid; do mount --bind "$from/$name" "/etc/$name"; done; exec "$@"'


@dataclass(frozen=True, slots=True)
class User:
    """`first` is the first of 65,536 subordinate uids."""

    name: str
    uid: int
    first: int
    place: Path

    @property
    def home(self) -> Path:
        return self.place / self.name

    def argv(self, *arguments: str | Path, tree: Path = ROOT) -> list[str]:
        """A command of mvm's as this user, whose checkout is `tree`."""
        over = ["unshare", "--mount", "sh", "-euc", OVER, "sh", str(self.place / "etc")]
        environment = [f"HOME={self.home}", f"PATH={os.environ['PATH']}", f"PYTHONPATH={tree}", "LANG=C.UTF-8"]
        python = [sys.executable, "-P", "-c", PLAINLY, str(self.uid)]
        return [*over, "env", "-i", *environment, *python, *map(str, arguments)]

    def mvm(self, *arguments: str | Path, tree: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
        argv = self.argv(*arguments, tree=tree)
        return subprocess.run(argv, cwd="/", capture_output=True, timeout=PATIENCE, check=False)

    def has(self, uid: int) -> bool:
        return uid == self.uid or self.first <= uid < self.first + 65_536

    def processes(self) -> dict[int, int]:
        """By process id, the uid of each that is this user's."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, KeyError):
                uids = procfs.uids(int(path.name))  # several while a setuid program starts, of anybody's
                (path / "exe").readlink()  # one that has ended has none
                if theirs := [*filter(self.has, uids)]:
                    (found[int(path.name)],) = theirs
        return found


@pytest.fixture
def users() -> Iterator[list[User]]:
    """Two users with subordinate uids, and homes that are closed to each other."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-users-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "etc").mkdir()
        made = [User("ada", 61_001, 910_000_000, place), User("bo", 61_002, 910_065_536, place)]
        for each in KNOWN:
            shutil.copy(Path("/etc", each), place / "etc" / each)
            with (place / "etc" / each).open("a") as file:
                for user in made:
                    entry = (
                        f"x:{user.uid}:{user.uid}::{user.home}:/bin/sh" if each == "passwd" else f"{user.first}:65536"
                    )
                    file.write(f"{user.name}:{entry}\n")
        yield made


def given(path: Path, user: User) -> None:
    subprocess.run(["chown", "-R", "--no-dereference", f"{user.uid}:{user.uid}", path], check=True)


def opened(processes: dict[int, int]) -> set[tuple[int, int]]:
    """The regular files, sockets and pipes that they have open, by device and inode."""
    found = set()
    for pid in processes:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                status = path.stat()
                if stat.S_IFMT(status.st_mode) in {stat.S_IFREG, stat.S_IFSOCK, stat.S_IFIFO}:
                    found.add((status.st_dev, status.st_ino))
    return found


def held(user: User) -> tuple[set[int], set[tuple[int, int]], set[Path]]:
    """The processes of a user's machines, what these have open, and the namespaces of the hypervisors."""
    assert len(user.mvm("ps", "--quiet").stdout.decode().split()) == EACH
    processes = user.processes()
    hypervisors = [pid for pid in processes if Path(f"/proc/{pid}/exe").readlink().name.startswith("qemu")]
    assert len(hypervisors) == EACH
    assert len({processes[pid] for pid in hypervisors} - {user.uid}) == EACH, "each has a uid of its own"
    spaces = {Path(f"/proc/{pid}/ns/{kind}").readlink() for pid in hypervisors for kind in SPACES}
    assert len(spaces) == len(SPACES) * EACH
    return set(processes), opened(processes), spaces


def test_machines_at_once_share_nothing_but_the_kernel(copied: World, users: list[User]) -> None:
    command = ("./examples/hello", "--", "/bin/busybox", "sleep", "900")
    bundle = copied.home.signed_plan(copied.home.path, *command, cwd=copied.tree)
    for user in users:
        shutil.copytree(copied.home.path, user.home, ignore=left_out)  # no hard links: their owner changes
        given(user.home, user)
    launch, none = ("launch", "--detach", "--name"), subprocess.DEVNULL
    starting = [
        subprocess.Popen(user.argv(*launch, f"m{number}", user.home / bundle.name), cwd="/", stdin=none, stdout=none)
        for number in range(EACH)
        for user in users
    ]
    try:
        assert [each.wait(PATIENCE) for each in starting] == [0] * EACH * len(users)
        for ours, theirs in zip(*map(held, users), strict=True):
            assert ours
            assert theirs
            assert not ours & theirs
    finally:
        for user in users:
            user.mvm("kill", *(f"m{number}" for number in range(EACH)))
    for user in users:
        receipts = [json.loads(path.read_bytes()) for path in user.home.rglob("receipt.sigstore.json")]
        claims = [json.loads(base64.b64decode(each["dsseEnvelope"]["payload"])) for each in receipts]
        held_in = [set(each["predicate"]["observedByHost"]["confinement"]) for each in claims]
        assert sum({"own-uid", "namespaces", "seccomp"} <= each for each in held_in) >= EACH
    until(lambda: not any(user.processes() for user in users), lambda: [user.processes() for user in users])


def test_a_clone_of_another_user_is_refused_by_gits_own_rule(world: World, users: list[User]) -> None:
    user = users[0]
    user.home.mkdir()
    given(user.home, user)
    tree = user.place / "tree"
    shutil.copytree(world.tree, tree, symlinks=True)
    given(tree, users[1])
    run = user.mvm("build", tree / "examples/hello", tree=tree)
    assert run.returncode == 126, run.stderr.decode()
    said = run.stderr.decode()
    assert "git reads a repository for its owner alone" in said
    assert f"next: copy it to a directory of your own (cp -r), or name it as it is: 'path:{tree}" in said
