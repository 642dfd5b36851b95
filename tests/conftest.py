"""What all tests share: a committed copy of this tree, homes, the command, and an image built once a session."""

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from mvmnix.builder.nix.host_nix import HostNix
from mvmnix.builder.nix.host_store import add_to_nix
from mvmnix.builder.pins.locks import parse_debian, parse_python
from mvmnix.cli import as_root
from mvmnix.system import prctl, system_user
from mvmnix.system.roots import Roots
from mvmnix.system.store import Store
from tests import sample
from tests.patience import PATIENCE, until
from tests.repository import ROOT
from tests.support.forks import pytest_runtest_makereport  # noqa: F401 - a hook
from tests.support.processes import end_started, end_with_test

if TYPE_CHECKING:
    from tests.workbench import Workbench

#: Has tests run that take control groups which were delegated to the user (tests/hostile/test_system_user.py).
DELEGATED = "MVMNIX_TEST_DELEGATED"
#: What is written last of a world that processes share.
BUILT = "stderr"
# A busy machine takes its time, and how long anything takes is nothing that these tests find out.
settings.register_profile("patient", database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# Takes the place of `timeout` in pyproject.toml; `--timeout` goes before both.
os.environ.setdefault("PYTEST_TIMEOUT", str(PATIENCE))
# Commands that tests start buffer as they do for users: what is written late, and fails late, shows only so.
os.environ.pop("PYTHONUNBUFFERED", None)
# Settings of this user's and this machine's decide nothing here: those of git, language, time zone and umask.
for name in [name for name in os.environ if name.startswith(("GIT_", "LC_")) or name in {"LANGUAGE", "TZ"}]:
    del os.environ[name]
os.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LANG": "C.UTF-8"}
time.tzset()
os.umask(0o022)
# A shell without job control has what it starts in the background ignore this signal, and all that starts, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Name the choice of rows, for who runs the same ones again."""
    return f"{sample.VARIABLE}={sample.choose_sample()}"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each run a base directory of its own: pytest's is this user's, and other runs clear it up.

    It goes with the run; `--basetemp` gives one that stays. Its name is short, for sockets in it have 107 bytes for
    their whole path (unix(7)), and has nothing that a shell or a table of mounts would escape.
    """
    if config.option.basetemp is not None or hasattr(config, "workerinput"):
        return
    where = tempfile.gettempdir()
    own = Path(tempfile.mkdtemp(prefix="mvm-", dir=where if re.fullmatch(r"[\w./-]+", where, re.ASCII) else "/tmp"))
    config.option.basetemp = own / "t"

    def remove() -> None:
        # the directories of a Nix store are read-only
        subprocess.run(["chmod", "-R", "u+rwX", own], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(own, ignore_errors=True)

    config.add_cleanup(remove)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m root`, leave files alone that have no such test: to collect all of them takes half a minute."""
    if config.option.markexpr != "root" or not collection_path.is_file():
        return None
    return b"mark.root(" not in collection_path.read_bytes() or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `root`, for a plain user, and what takes control groups that weren't delegated."""
    left_out = {*(("root",) if os.geteuid() else ()), *(("delegated",) if DELEGATED not in os.environ else ())}
    deselect(config, items, {item for item in items if any(map(item.get_closest_marker, left_out))})


def deselect(config: pytest.Config, items: list[pytest.Item], chosen: set[pytest.Item]) -> None:
    """Leave out these tests."""
    if chosen:
        config.hook.pytest_deselected(items=[*chosen])
        items[:] = [item for item in items if item not in chosen]


@pytest.fixture(autouse=True)
def dumpable() -> None:
    """A test that used a secret in this process left it so that its children can't be looked at by a plain user."""
    prctl.set_dumpable(dumpable=True)


@pytest.fixture(autouse=True)
def commands_ended() -> Iterator[None]:
    """End what `Home.start` started when its test has ended, machines that run in it too."""
    yield
    end_started()


def _state_of_system_user() -> set[Path]:
    """The files in the system user's configuration and state; its cache is shared with tests that fetch.

    A directory alone is no state: that of its uids is made by each machine that it has.
    """
    tops = Path(system_user.HOME, ".config"), Path(system_user.HOME, ".local/state")
    return {path for top in tops for path in top.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="session")
def known_state() -> set[Path]:
    """What was in the system user's home before the first test, and what is known since."""
    return _state_of_system_user() if os.geteuid() == 0 else set()


@pytest.fixture(autouse=True)
def system_user_is_left_alone(known_state: set[Path]) -> Iterator[None]:
    """As root: fail where a test, or what was made for it, leaves keys or state in the system user's home."""
    yield
    if os.geteuid() == 0:
        found = _state_of_system_user() - known_state
        known_state |= found
        assert not found, f"left in the system user's home: {sorted(map(str, found))}"


#: Runs a command where there is no network interface but the loopback.
OFFLINE = ("unshare", *(("--user", "--map-current-user") if os.geteuid() else ()), "--net")


def own_store(home: Path) -> dict[str, str]:
    """Variables by which a test's Nix has a store below a directory, where /nix is root's and the test is not."""
    return {"NIX_REMOTE": f"local?root={home}/store"} if os.geteuid() else {}


@dataclass(frozen=True, slots=True)
class Home:
    """A user's home directory, with state and configuration of its own; the source cache is shared, or at `cache`."""

    path: Path
    cache: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that this user runs."""
        cache = str(self.cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return {"HOME": str(self.path), "XDG_CACHE_HOME": cache, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    @property
    def state(self) -> Path:
        """Where mvm keeps this user's images, machines and log."""
        return self.path / ".local/state/mvmnix"

    @property
    def config(self) -> Path:
        """Where this user's keys and trust policy are."""
        return self.path / ".config/mvmnix"

    @property
    def as_owner(self) -> tuple[str, ...]:
        """As root: a command that runs another as the user whose home it is; mvm itself would become `mvmnix`."""
        owner = self.path.stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            return ()
        ids = (f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}")
        return ("setpriv", *ids, "--init-groups", "--inh-caps=-all", "--")

    def mvm(
        self,
        *arguments: str | bytes | Path,
        cwd: Path = Path("/"),
        env: Mapping[str, str | Path] | None = None,
        stdin: bytes = b"",
        prefix: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `mvm` as this user to its end; `env` adds variables, `prefix` is a command that runs the command."""
        return subprocess.run(
            [*prefix, *self._command(*arguments)],
            env=self.environment | {name: str(value) for name, value in (env or {}).items()},
            cwd=cwd,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *arguments: str | bytes | Path, cwd: Path = Path("/")) -> "subprocess.Popen[bytes]":
        """Start `mvm` as this user; it is killed at the test's end if it still runs then."""
        pipe, argv = subprocess.PIPE, self._command(*arguments)
        return end_with_test(
            subprocess.Popen(argv, env=self.environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        )

    def list_server(self, origin: str) -> None:
        """Have this user's configuration list a server of this machine, and nothing else."""
        self.config.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = f'version = 1\n[templates]\nunasked = false\n[fetch]\nloopback = ["{origin}"]\n'
        (self.config / "config.toml").write_text(text)

    def make_no_templates(self) -> None:
        """Have no template made unasked, beside this user's tests, unless there is a configuration already."""
        self.config.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.config / "config.toml").exists():
            (self.config / "config.toml").write_text("version = 1\n[templates]\nunasked = false\n")

    def signed_plan(
        self,
        where: Path,
        *words: str | Path,
        cwd: Path = Path("/"),
        env: Mapping[str, str | Path] | None = None,
    ) -> Path:
        """Make a plan with these words of `mvm plan create` in a directory, and sign it; returns the bundle."""
        statement, bundle = where / "plan.json", where / "plan.sigstore.json"
        for step in (("create", "--out", statement, *words), ("sign", statement, "--out", bundle)):
            done = self.mvm("plan", *step, cwd=cwd, env=env)
            assert done.returncode == 0, done.stderr.decode()
        return bundle

    def _command(self, *arguments: str | bytes | Path) -> list[str | bytes | Path]:
        """The command as this user; as root, one that would work in the system user's home has to name that user."""
        if os.geteuid() == 0 and not self.as_owner:
            user, command, _ = as_root.read([os.fsdecode(word) for word in arguments])
            assert user or command in {"", *as_root.STATELESS}, f"name a user: mvm --user NAME {command}"
        return [*self.as_owner, *self.argv(*arguments)]

    @staticmethod
    def argv(*arguments: str | bytes | Path) -> list[str | bytes | Path]:
        """The argument list of an `mvm` command; `-P`: nothing is imported out of the directory it runs in."""
        return [sys.executable, "-P", "-m", "mvmnix.cli", *arguments]


def make_home(path: Path) -> Home:
    """A new home directory."""
    path.mkdir(mode=0o700)
    return Home(path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A user who never ran mvm."""
    return make_home(tmp_path / "home")


def committed_copy(target: Path) -> Path:
    """The files of this tree, those not committed yet among them, as a git commit in a new repository."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
            (target / name).chmod((ROOT / name).stat().st_mode & 0o755)
    commit(target)
    return target


def commit(tree: Path) -> str:
    """Commit everything in a directory, in a repository of its own; returns the commit."""
    git = [
        "git",
        "-C",
        str(tree),
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@localhost",
        "-c",
        "commit.gpgsign=false",
    ]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "test"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as a clean git commit elsewhere. Not to be changed by tests."""
    return committed_copy(tmp_path_factory.mktemp("tree") / "mvmnix")


@dataclass(frozen=True, slots=True)
class World:
    """A user who has run examples/hello: `home` has keys, policy, the builder image and the built image.

    `hello` is that image as `mvm build --out` exports it, `first_run` how the first run went. Not to be changed.
    """

    home: Home
    tree: Path
    hello: Path
    first_run: subprocess.CompletedProcess[bytes]

    def copy(self, target: Path) -> "World":
        """The same with another home, at `target`, or as root where its user gets to: see `copy_home`."""
        if os.geteuid() == 0:
            target = Path(tempfile.mkdtemp(prefix="copy.", dir=self.tree.parent)) / "home"
        copy_home(self.home.path, target)
        replace(self.home, path=target).make_no_templates()
        self.give(target.parent if os.geteuid() == 0 else target)
        return replace(self, home=replace(self.home, path=target))

    @contextmanager
    def owner_rights(self) -> Iterator[None]:
        """As root: this process works with the files as the world's user does; commands that it starts fail."""
        owner = self.tree.parent.stat()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def give(self, path: Path) -> None:
        """As root: give files to the world's user."""
        give(path, self.tree.parent.stat().st_uid)


def give(path: Path, uid: int) -> None:
    """As root: give files to a user, with that user's group."""
    if os.geteuid() == 0:
        gid = pwd.getpwuid(uid).pw_gid
        subprocess.run(["chown", "-R", "--no-dereference", f"{uid}:{gid}", path], check=True)


def world_home(base: Path) -> Home:
    """The home of a world at `base`; as root it has a cache of its own, for it is another user's."""
    return Home(base / "home", base / "cache" if os.geteuid() == 0 else None)


def make_world(tree: Path, base: Path) -> World:
    """The real thing: `mvm run ./examples/hello` in a fresh home, and the image exported."""
    home = world_home(base)
    home.path.mkdir(mode=0o700)
    home.make_no_templates()
    give(base, base.stat().st_uid)
    fetched = home.mvm("pin", "fetch", cwd=tree)
    assert fetched.returncode == 0, fetched.stderr.decode()
    run = home.mvm("run", "--evidence", "./examples/hello", cwd=tree)
    assert run.returncode == 0, run.stderr.decode()
    exported = home.mvm("build", "./examples/hello", "--out", base / "hello", cwd=tree)
    assert exported.returncode == 0, exported.stderr.decode()
    return World(home, tree, base / "hello", run)


def make_warm_world(tree: Path, base: Path) -> World:
    """The same with a template of the image."""
    made = make_world(tree, base)
    warm_up(made.home, f"{tree}/examples/hello")
    return made


def warm_up(home: Home, flake: str) -> None:
    """Have machines of an image start from a template, for tests that are about no boot; its own machine is removed."""
    made = home.mvm("warm", flake)
    assert made.returncode == 0, made.stderr.decode()
    removed = home.mvm("rm", made.stdout.decode().strip())
    assert removed.returncode == 0, removed.stderr.decode()


def pins_in_nix(home: Home, tree: Path) -> None:
    """This repository's pins, fetched by mvm, in the Nix store that this process may write to.

    What root's mvm fetches is the system user's: root takes a copy.
    """
    whom = ("--user", system_user.USER) if os.geteuid() == 0 else ()
    fetched = home.mvm(*whom, "pin", "fetch", "--store-only", cwd=ROOT)
    assert fetched.returncode == 0, fetched.stderr.decode()
    variables = home.environment
    if os.geteuid() == 0:
        cache = home.path / ".cache/mvmnix"
        cache.mkdir(mode=0o700, parents=True)
        shutil.copytree(Path(pwd.getpwnam(system_user.USER).pw_dir, ".cache/mvmnix/sources"), cache / "sources")
        variables |= {"XDG_CACHE_HOME": str(cache.parent)}
    debian = parse_debian((tree / "modules/debian/lock.json").read_bytes())
    python = parse_python((tree / "modules/python/lock.json").read_bytes())
    with Roots.from_environment(variables) as roots, roots.cache.existing("sources") as sources:
        add_to_nix(HostNix.find(roots), (*debian.sources(), *python.sources()), Store(sources))


def copy_home(home: Path, target: Path) -> None:
    """Copy a home; large files are hard links, so a test that changes one puts another file in its place.

    A Nix store of the user's own stays behind: what is built in the builder VM doesn't need it. So do sockets, which a
    machine has that a failed test left running.
    """

    def copy(source: str, copied: str) -> str:
        if Path(source).stat().st_size < 1 << 20:
            return shutil.copy2(source, copied)
        os.link(source, copied)
        return copied

    shutil.copytree(home, target, copy_function=copy, ignore=left_out)


def left_out(directory: str, names: list[str]) -> set[str]:
    """What of a home no copy has: the Nix store, which is shared, and what processes of that home serve."""
    if directory.endswith("share/mvmnix"):
        return {"nix"}
    if directory.endswith("state/mvmnix"):
        return {"launchers"}
    return {name for name in names if Path(directory, name).is_socket()}


def take_over(base: Path, copy: Path) -> None:
    """Copy another user's world once it is built, and what that user's cache has, for root's tests.

    It belongs to that user, as whom its commands run.
    """
    until((base / BUILT).exists, seconds=PATIENCE)
    with (base / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    user = base.stat().st_uid
    cache = Path(pwd.getpwuid(user).pw_dir, ".cache/mvmnix/sources")
    shutil.copytree(base, copy, symlinks=True, ignore=left_out)
    (copy / "cache").mkdir(mode=0o700)
    (copy / "cache/mvmnix").mkdir(mode=0o700)
    shutil.copytree(cache, copy / "cache/mvmnix/sources")
    give(copy, user)


def shared_world(base: Path, home: Path) -> World:
    """The world at `base`, built by the first process that asks for it; each has a copy of its home at `home`."""
    said = base / "stdout", base / BUILT
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said[-1].exists():
            run = make_warm_world(committed_copy(base / "tree"), base).first_run
            said[0].write_bytes(run.stdout)
            said[1].write_bytes(run.stderr)
    run = subprocess.CompletedProcess([], 0, *(path.read_bytes() for path in said))
    return World(world_home(base), base / "tree", base / "hello", run).copy(home)


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world, built once: minutes. Tests that change state work on a copy of the home (`copied`).

    `MVMNIX_TEST_WORLD` names an empty directory, for processes that share one world. Root's is a plain user's, where
    that user gets to: a copy of one that another user builds there, or the system user's.
    """
    shared = os.environ.get("MVMNIX_TEST_WORLD")
    if os.geteuid() == 0:
        with tempfile.TemporaryDirectory(prefix="mvmnix-world-", dir="/var/tmp") as place:
            Path(place).chmod(0o755)
            base = Path(place, "world")
            if shared is not None and (not Path(shared).exists() or Path(shared).stat().st_uid != 0):
                take_over(Path(shared), base)
            else:
                base.mkdir()
                give(base, pwd.getpwnam(system_user.USER).pw_uid)
            yield shared_world(base, base)
    elif shared:
        yield shared_world(Path(shared), tmp_path_factory.mktemp("world") / "home")
    else:
        yield make_warm_world(request.getfixturevalue("tree"), tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def minimal(world: World) -> str:
    """A flake whose guest grants each verb, for plans with a command of their own; built, so that copies have it."""
    reference = f"{world.tree}#minimal"
    built = world.home.mvm("build", reference)
    assert built.returncode == 0, built.stderr.decode()
    warm_up(world.home, reference)
    return reference


@pytest.fixture
def copied(world: World, tmp_path: Path) -> World:
    """A copy of the world that a test may change."""
    return world.copy(tmp_path / "home")


@pytest.fixture(scope="session")
def workbench(world: World, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Workbench]":
    """A builder VM for many small builds, in a copy of the world."""
    from tests.workbench import Workbench

    with Workbench(world.copy(tmp_path_factory.mktemp("workbench") / "home")) as bench:
        yield bench
