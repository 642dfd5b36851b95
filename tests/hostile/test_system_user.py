"""Root's rights once mvm has given them up: former_root.py tries to get at them, as the process that it was."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix import procfs
from mvmnix.privileges import ids, withheld
from mvmnix.process import is_readable
from tests.conftest import TREE, Home, make_home
from tests.patience import EVENT_PATIENCE, PATIENCE, until

pytestmark = [
    pytest.mark.vm,  # boots nothing, but makes namespaces and control groups of the machine
    pytest.mark.root("root's rights: run this as root"),
]
#: Ways that are looked at: a shorter list means that the program ended early.
LEAST = 60


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="mvmnix-other-") as open_to_all:
        Path(open_to_all).chmod(0o755)
        yield tried(tmp_path_factory.mktemp("give-up"), Path(open_to_all) / "private" / "file")


def tried(base: Path, other: Path) -> list[str]:
    base.chmod(0o700)
    named, secret = base / "named", base / "hidden" / "secret"
    for file, text in ((named / "file", "named"), (secret, "a secret"), (other, "another user's")):
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o600)
    os.chown(other, 1234, 1234)
    os.chown(other.parent, 1234, 1234)
    program = [sys.executable, "-P", str(Path(__file__).with_name("former_root.py"))]
    environment = make_home(base / "home").environment | {"PYTHONPATH": str(TREE)}
    done = subprocess.run(
        [*program, named, secret, other], env=environment, cwd="/", capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (named / "new").stat().st_uid == 0, "on disk it is root's, as all in that directory is"
    return done.stdout.decode().splitlines()


def test_no_way_leads_back(said: list[str]) -> None:
    *ways, end = said
    assert len(ways) >= LEAST
    assert [way for way in ways if ": held: " not in way] == []
    assert end == "alive", "the broker serves on, whatever it was sent"


def test_a_command_runs_as_mvm_s_own_uid(tmp_path: Path) -> None:
    """`mvm` itself, from outside: the command and the broker beside it, which ends with it."""
    home = make_home(tmp_path / "home")
    reading, writing = os.pipe()
    waiting = subprocess.Popen(
        home.argv("verify", "--key", f"/proc/self/fd/{reading}", "/dev/null"),
        env=home.environment,
        cwd="/",
        pass_fds=(reading,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        fields = dict[str, str]()
        while fields.get("NoNewPrivs") != "1" and waiting.poll() is None:  # the last that it does
            lines = Path(f"/proc/{waiting.pid}/status").read_text().splitlines()
            fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert {uid for name in ("Uid", "Gid") for uid in fields[name].split()} == {str(ids.MVM)}
        assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        (broker,) = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children").read_text().split()
        pidfd = os.pidfd_open(int(broker))
        assert os.readlink(f"/proc/{broker}/cwd") == "/"  # noqa: PTH115
    finally:
        os.close(writing)
        waiting.wait(EVENT_PATIENCE)
        os.close(reading)
    assert waited(pidfd), "the broker outlives the last process that can ask it"


@pytest.mark.parametrize(("mode", "code", "words"), [(0o700, 0, ""), (0o755, 2, withheld.WRITING)])
def test_a_place_that_others_reach_is_not_written(mode: int, code: int, words: str) -> None:
    """Root hears why mvm doesn't write there, and what helps."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-place-", dir="/srv") as place:
        Path(place).chmod(mode)
        (Path(place) / "in").mkdir()
        home = make_home(Path(place) / "home")
        done = subprocess.run(
            home.argv("init", "clock"), env=home.environment, cwd=Path(place) / "in", capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr.decode()
        assert words in done.stderr.decode()
        assert (Path(place) / "in" / "clock" / "flake.nix").exists() is (code == 0)


def test_no_link_above_an_output_is_followed() -> None:
    """view.py makes it anew where root's mvm sees it, as root; it is a stranger's all the same."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-place-", dir="/srv") as place:
        Path(place).chmod(0o700)
        (Path(place) / "real").mkdir()
        (Path(place) / "link").symlink_to("real")
        home = make_home(Path(place) / "home")
        argv = home.argv("init", f"{place}/link/clock")
        done = subprocess.run(argv, env=home.environment, cwd="/", capture_output=True, check=False)
        assert (done.returncode, b"is a symbolic link" in done.stderr) == (2, True), done.stderr.decode()
        assert list((Path(place) / "real").iterdir()) == []


def waited(pidfd: int) -> bool:
    try:
        return is_readable(pidfd, 30)
    finally:
        os.close(pidfd)


SERVED = """
import os, sys
from mvmnix.privileges import client, ids
from mvmnix.privileges.give_up import give_up_root
from mvmnix.privileges.tree import ServedDirectory
give_up_root([sys.argv[1]], os.environ)
for path in sys.argv[1:]:
    try:
        os.close(client.current().tree(os.open(path, os.O_PATH), ids.FIRST_OF_POOL, ServedDirectory(True, 0)))
        print("served")
    except OSError as error:
        print(error.strerror)
"""


def test_another_user_s_directory_is_served_where_it_is_named(tmp_path: Path) -> None:
    """It may be one that everybody passes, and what lies in it isn't named by that."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-other-") as name:
        inside = Path(name, "inside")
        inside.mkdir()
        for path in (Path(name), inside):
            path.chmod(0o755)
            os.chown(path, 1234, 1234)
        environment = make_home(tmp_path / "home").environment | {"PYTHONPATH": str(TREE)}
        argv = [sys.executable, "-P", "-c", SERVED, name, str(inside)]
        done = subprocess.run(
            argv, env=environment, cwd="/", capture_output=True, text=True, timeout=EVENT_PATIENCE, check=True
        )
    assert done.stdout.splitlines() == ["served", "it isn't named on the command line"]


@dataclass(frozen=True, slots=True)
class Running:
    """A command of root's while it runs, and what a process with its rights may do."""

    process: int
    uid: int

    def can(self, *argv: str | Path) -> bool:
        """Run a program as the command's uid, in its mount namespace and its working directory."""
        entered = ("nsenter", "--target", str(self.process), "--mount", f"--wdns=/proc/{self.process}/cwd")
        dropped = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs")
        done = subprocess.run(
            [*entered, *dropped, "--", *argv], capture_output=True, timeout=EVENT_PATIENCE, check=False
        )
        return done.returncode == 0


@contextmanager
def running(home: Home, cwd: Path) -> Iterator[Running]:
    """`mvm events --follow`, started by root in a directory, once root's uid is gone."""
    process = home.start("events", "--follow", cwd=cwd)
    try:
        until(lambda: process.poll() is not None or procfs.uids(process.pid).isdisjoint({0}), seconds=EVENT_PATIENCE)
        assert process.poll() is None, process.communicate()[1].decode()
        (uid,) = procfs.uids(process.pid)
        yield Running(process.pid, uid)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A directory of root's that is closed to all others, with a file that is."""
    place = tmp_path / "private"
    place.mkdir(mode=0o700)
    (place / "secret").write_text("root's\n")
    (place / "secret").chmod(0o600)
    return place


def test_a_name_in_the_working_directory_opens_nothing_of_root_s(home: Home, private: Path) -> None:
    """A stranger's directory has a link that is called as the command is."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-stranger-") as place:
        Path(place).chmod(0o755)
        (Path(place) / "events").symlink_to(private)
        os.chown(place, 1234, 1234)
        with running(home, Path(place)) as command:
            assert not command.can("cat", private / "secret")
            assert not command.can("touch", private / "planted")
    assert not (private / "planted").exists()


def test_the_working_directory_s_closed_files_stay_closed(home: Home, private: Path) -> None:
    """To work somewhere names nothing there: a command that was taken over reads and changes none of it."""
    with running(home, private) as command:
        assert not command.can("cat", private / "secret")
        assert not command.can("cat", "secret")
        assert not command.can("cp", "/etc/hostname", private / "secret")
        assert not command.can("touch", "planted")
    assert (private / "secret").read_text() == "root's\n"
