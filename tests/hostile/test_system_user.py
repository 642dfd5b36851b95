"""Where root starts mvm it becomes a system user: no way leads back, and nothing of root's is reached by any name.

left_root.py tries the ways, as the process that it was.
"""

import errno
import fcntl
import json
import os
import pty
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.api import held_files
from mvmnix.system import procfs, system_user
from tests.conftest import DELEGATED, Home, commit, make_home
from tests.patience import EVENT_PATIENCE, PATIENCE, until
from tests.repository import ROOT
from tests.support.processes import list_open, status
from tests.throwaway_user import throwaway_user
from tests.unit.cli.releases import KEY, provenance
from tests.unit.provenance import foreign_world as foreign

pytestmark = [
    pytest.mark.vm,  # boots nothing, but makes users and control groups of the machine
    pytest.mark.root("it is what root's mvm does"),
]
#: Ways that are looked at: a shorter list means that the program ended early.
LEAST = 110


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    with throwaway_user() as it:
        made = mvm(it, "key", "create", "host")
        assert made.returncode == 0, made.stderr.decode()
        yield it


@pytest.fixture
def home(user: pwd.struct_passwd) -> Home:
    """Root's environment has another home; the user's is the one in the password file."""
    return Home(Path(user.pw_dir))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A directory of root's that is closed to all others, with a file that is."""
    place = tmp_path / "private"
    place.mkdir(mode=0o700)
    (place / "secret").write_text("root's\n")
    (place / "secret").chmod(0o600)
    return place


def mvm(
    user: pwd.struct_passwd, *words: str | Path, cwd: Path = Path("/"), env: Mapping[str, str | Path] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`mvm` as root starts it."""
    environment = {"HOME": "/root", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | {
        name: str(value) for name, value in (env or {}).items()
    }
    argv = Home.argv("--user", user.pw_name, *words)
    return subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, timeout=PATIENCE, check=False)


def test_no_way_leads_back(user: pwd.struct_passwd, private: Path) -> None:
    """With a terminal, a key and a descriptor of root's, in a closed directory."""
    ours, theirs = pty.openpty()

    def controlled() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    argv = [sys.executable, "-P", str(Path(__file__).with_name("left_root.py")), user.pw_name, str(private)]
    done = subprocess.run(
        argv,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        cwd=private,
        stdin=theirs,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=controlled,
    )
    for fd in (ours, theirs):
        os.close(fd)
    assert done.returncode == 0, done.stderr.decode()
    *ways, end = done.stdout.decode().splitlines()
    assert [way for way in ways if ": held: " not in way] == []
    assert len(ways) >= LEAST
    assert end == "alive"


TERMINAL = """
import os, sys
from mvmnix.system import system_user
system_user.become(sys.argv[1])
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError as error:
    print(error.errno)
"""


def test_a_terminal_that_no_stream_is_cannot_be_opened(user: pwd.struct_passwd) -> None:
    """`mvm … </dev/null 2>&1 | cat`, in a shell that has one."""
    ours, theirs = pty.openpty()

    def controlled() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    shell = ("/bin/sh", "-c", '"$@"; exit', "sh")
    done = subprocess.run(
        [*shell, sys.executable, "-P", "-c", TERMINAL, user.pw_name],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=controlled,
        pass_fds=(theirs,),
    )
    for fd in (ours, theirs):
        os.close(fd)
    assert (done.stdout, done.returncode) == (f"{errno.ENXIO}\n".encode(), 0), done.stderr.decode()


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
def running(user: pwd.struct_passwd, cwd: Path) -> Iterator[Running]:
    """`mvm events --follow`, started by root in a directory, once root's uid is gone."""
    argv = Home.argv("--user", user.pw_name, "events", "--follow")
    process = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: process.poll() is not None or procfs.uids(process.pid).isdisjoint({0}), seconds=EVENT_PATIENCE)
        assert process.poll() is None, process.communicate()[1].decode()
        (uid,) = procfs.uids(process.pid)
        yield Running(process.pid, uid)
        assert process.poll() is None, "it was there to the end"
    finally:
        process.kill()
        process.communicate()


def test_a_name_in_the_working_directory_opens_nothing_of_root_s(user: pwd.struct_passwd, private: Path) -> None:
    """A stranger's directory has a link that is called as the command is."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-stranger-") as place:
        Path(place).chmod(0o755)
        (Path(place) / "events").symlink_to(private)
        os.chown(place, 1234, 1234)
        with running(user, Path(place)) as command:
            assert command.can("ls", "."), "it is tried as the command's own uid, where it works"
            assert not command.can("cat", private / "secret")
            assert not command.can("cat", "events/secret")
            assert not command.can("touch", private / "planted")
    assert not (private / "planted").exists()


def test_the_working_directory_s_closed_files_stay_closed(user: pwd.struct_passwd, private: Path) -> None:
    """To work somewhere names nothing there: a command that was taken over reads and changes none of it."""
    with running(user, private) as command:
        assert not command.can("cat", private / "secret")
        assert not command.can("cat", "secret")
        assert not command.can("cp", "/etc/hostname", private / "secret")
        assert not command.can("touch", "planted")
        assert Path(f"/proc/{command.process}/cwd").readlink() == Path("/")
    assert (private / "secret").read_text() == "root's\n"


def test_seen_from_outside(user: pwd.struct_passwd) -> None:
    with running(user, Path("/")) as command:
        seen = status(command.process)
        assert set(seen["Uid"].split()) == {str(user.pw_uid)}
        assert set(seen["Gid"].split()) == {str(user.pw_gid)}
        assert set(map(int, seen["Groups"].split())) == {*os.getgrouplist(user.pw_name, user.pw_gid)}
        assert {seen[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
        assert seen["NoNewPrivs"] == "0", "newuidmap and newgidmap could not give its machines uids"
        paths = [path for path in list_open(command.process) if path.startswith("/") and path != "/dev/null"]
        assert [path for path in paths if not path.startswith(user.pw_dir)] == []


#: Variables that would have mvm, or what it starts, read root's or a stranger's files.
HOSTILE = {
    **dict.fromkeys(("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"), "PLACE"),
    **dict.fromkeys(("TMPDIR", "TMP", "TEMP", "MVMNIX_STATE", "MVMNIX_LOG", "GNUPGHOME", "NIX_STATE_DIR"), "PLACE"),
    **dict.fromkeys(("LD_LIBRARY_PATH", "GCONV_PATH", "LOCPATH", "PYTHONUSERBASE", "GIT_DIR", "PERL5LIB"), "PLACE"),
    **dict.fromkeys(("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "BASH_ENV", "OPENSSL_CONF", "NETRC"), "PLACE"),
}
SHOWN = """
import json, os, sys
from mvmnix.system import system_user
system_user.become(sys.argv[1])
print(json.dumps(dict(os.environ)))
"""


def test_a_hostile_environment_is_dropped(user: pwd.struct_passwd, private: Path) -> None:
    variables = {name: str(private) for name in HOSTILE} | {"LANG": "C.UTF-8", "https_proxy": "http://proxy.test"}
    argv = [sys.executable, "-P", "-c", SHOWN, user.pw_name]
    done = subprocess.run(argv, env=variables | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True, cwd="/")
    left = json.loads(done.stdout)
    assert [name for name, value in left.items() if str(private) in value] == []
    assert left["https_proxy"] == "http://proxy.test", "how servers are reached stays"
    assert [left[name] for name in ("HOME", "USER", "LOGNAME")] == [user.pw_dir, user.pw_name, user.pw_name]


def test_state_is_the_user_s_whatever_root_s_variables_say(user: pwd.struct_passwd, private: Path, home: Home) -> None:
    done = mvm(user, "key", "create", "planner", env=dict.fromkeys(HOSTILE.keys() - {"LD_LIBRARY_PATH"}, private))
    assert done.returncode == 0, done.stderr.decode()
    assert [path.name for path in private.iterdir()] == ["secret"]
    keys = list((home.config / "keys").iterdir())
    assert keys
    assert {path.stat().st_uid for path in keys} == {user.pw_uid}


def test_a_closed_working_directory_is_left(user: pwd.struct_passwd, private: Path) -> None:
    """And one beneath a closed one, though it is open itself: it would hold files open that no path leads to."""
    (private / "open").mkdir(mode=0o755)
    (private / "open/plan").write_text("{}")
    for where in (private, private / "open"):
        done = mvm(user, "plan", "show", "plan", cwd=where)
        first, *_ = done.stderr.decode().splitlines()
        assert first == f"mvm: {where} is closed to this user, so mvm works in /"
        assert done.returncode == 2
    here = mvm(user, "ps", cwd=Path("/srv"))
    assert (here.returncode, here.stderr) == (0, b"")


def test_nothing_of_root_s_is_written(user: pwd.struct_passwd, private: Path) -> None:
    """Nor is a file of root's read that is named."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-of-root-") as place:
        Path(place).chmod(0o755)
        done = mvm(user, "init", Path(place) / "new")
        assert done.returncode != 0
        assert list(Path(place).iterdir()) == []
        assert f"{user.pw_name} may not write in {place}".encode() in done.stderr
        assert b"chown" not in done.stderr, "a directory that is there may be the system's, or a link by then"
        os.chown(place, user.pw_uid, user.pw_gid)
        assert mvm(user, "init", Path(place) / "new").returncode == 0
    done = mvm(user, "plan", "show", private / "secret")
    assert done.returncode == 2
    assert b"Permission denied" in done.stderr


def test_a_program_in_a_closed_directory_says_so_in_one_line(user: pwd.struct_passwd, private: Path) -> None:
    shutil.copytree(ROOT / "mvmnix", private / "mvmnix", ignore=shutil.ignore_patterns("__pycache__"))
    done = mvm(user, "ps", env={"PYTHONPATH": private})
    assert done.returncode == 125
    what, following = done.stderr.decode().splitlines()
    assert what.startswith(f"mvm: this program lies in {private}/mvmnix, and ")
    assert "chmod a+rx" in following


def test_without_the_user_one_line_makes_it() -> None:
    name = "mvmnix-t0000"
    missing = subprocess.run(Home.argv("--user", name, "ps"), env={}, capture_output=True, check=False, cwd="/")
    assert missing.returncode == 125
    what, following = missing.stderr.decode().splitlines()
    assert what == f"mvm: there is no user {name}, as whom mvm runs where root starts it"
    line = following.removeprefix("  next: as root: ")
    assert line == system_user.command_for(name)
    until(lambda: subprocess.run(shlex.split(line), capture_output=True, check=False).returncode == 0)
    try:
        found = subprocess.run(Home.argv("--user", name, "ps"), env={}, capture_output=True, check=False, cwd="/")
        assert (found.returncode, found.stderr) == (0, b"")
    finally:
        until(lambda: subprocess.run(["userdel", name], capture_output=True, check=False).returncode == 0)
        shutil.rmtree(f"/var/lib/{name}")


def test_root_is_no_user_of_mvm_s() -> None:
    done = subprocess.run(Home.argv("--user", "root", "ps"), env={}, capture_output=True, check=False, cwd="/")
    assert (done.returncode, b"mvm: root is root, as whom mvm never runs" in done.stderr) == (2, True), done.stderr


def test_what_keeps_nothing_needs_no_user() -> None:
    """Without `mvmnix`, or with it."""
    for words in (("--version",), ("--help",), ("run", "--help"), ("schema",), ("completion", "bash")):
        done = subprocess.run(Home.argv(*words), env={}, capture_output=True, check=False, cwd="/")
        assert (done.returncode, done.stderr) == (0, b""), words


def test_a_machine_s_means_are_a_plain_user_s(user: pwd.struct_passwd) -> None:
    """Subordinate uids by newuidmap, and limits by the control groups that were handed over."""
    done = mvm(user, "doctor", "--json")
    found = {it["what"]: it for it in json.loads(done.stdout)["result"]}
    assert (found["jail"]["health"], found["uids"]["health"]) == ("good", "good")
    assert "one for each machine, of your subordinate uids" in found["uids"]["said"]
    assert {"own-uid", "cgroup-memory", "cgroup-pids", "cgroup-cpu"} <= set(
        found["jail"]["said"].split("; ")[1].split(", ")
    )
    assert found["control groups"]["health"] == "good"


LIMITED = """
import os, sys
from mvmnix.system import system_user
assert not system_user.become(sys.argv[1]).obstacle
os.environ[sys.argv[2]] = "1"
import pytest
sys.exit(pytest.main(["-m", "delegated", "-p", "no:cacheprovider", "-n", "0", *sys.argv[3:]]))
"""


def test_limits_hold_in_the_groups_that_are_handed_over(user: pwd.struct_passwd) -> None:
    """What takes delegated control groups, of helpers and of hypervisors, as a user who has some."""
    files = ["tests/hostile/test_helpers.py", "tests/hostile/test_jail.py"]
    argv = [sys.executable, "-P", "-c", LIMITED, user.pw_name, DELEGATED, *files]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert b" 5 passed" in done.stdout, done.stdout.decode()


@pytest.fixture
def release(private: Path) -> Path:
    (private / "app.img").write_bytes(foreign.ARTIFACT)
    (private / "app.img.sigstore.json").write_bytes(provenance())
    (private / "release.pub").write_text(KEY.public.pem)
    for path in private.iterdir():
        path.chmod(0o600)
    return private


def verified(*words: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        Home.argv("verify", *words), env=env, cwd=cwd, capture_output=True, timeout=PATIENCE, check=False
    )


def test_verify_needs_no_user_and_reads_what_root_names(release: Path) -> None:
    """Closed files of root's, by relative and absolute paths, with a key in an option or behind it."""
    for words in (("--key", "release.pub", "app.img"), (f"--key={release}/release.pub", release / "app.img")):
        done = verified(*words, cwd=release)
        assert done.returncode == 0, done.stderr.decode()
    (release / "app.img").write_bytes(b"another")
    assert verified("--key", "release.pub", "app.img", cwd=release).returncode == 1


def test_no_library_is_told_what_to_load(release: Path) -> None:
    """OpenSSL would read this when it is loaded, and wait for a writer."""
    os.mkfifo(release / "openssl.cnf")
    done = verified("--key", "release.pub", "app.img", cwd=release, OPENSSL_CONF=str(release / "openssl.cnf"))
    assert done.returncode == 0, done.stderr.decode()


def test_verify_waits_for_nobody(release: Path) -> None:
    """A lease (fcntl(2)) has others wait for whoever holds it, 45 seconds or more for each file."""
    with (release / "app.img").open("rb+") as leased:
        fcntl.fcntl(leased, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        done = verified("--key", "release.pub", "app.img", cwd=release)
    assert done.returncode == 2, done.stdout.decode()


def test_verify_holds_no_file_that_a_link_leads_to(release: Path) -> None:
    """A stranger's directory may have one to anything of root's."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-stranger-") as place:
        Path(place).chmod(0o755)
        for name in ("app.img", "app.img.sigstore.json"):
            (Path(place) / name).symlink_to(release / name)
        done = verified("--key", release / "release.pub", "app.img", cwd=Path(place))
        assert done.returncode == 2, done.stdout.decode()


HOLDING = """
import os, sys
from mvmnix.cli import as_root
from mvmnix.cli.main import COMMANDS
as_root.leave(["verify", *sys.argv[1:]], COMMANDS)
print(os.getpid(), os.stat("/proc/self/mem").st_uid)
print(*os.getresuid(), *os.getresgid(), os.getgroups(), len(os.listdir("/proc/self/fd")))
print(*(line for line in open("/proc/self/status") if line.startswith(("NoNewPrivs", "Cap"))), sep="")
"""


def test_what_verifies_owns_nothing(release: Path) -> None:
    argv = [sys.executable, "-P", "-c", HOLDING, "--key", "release.pub", "app.img"]
    done = subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, cwd=release, capture_output=True, text=True, check=True)
    process, first, *status = filter(None, done.stdout.splitlines())
    number, owner = map(int, process.split())
    nobody = str(system_user.UNPRIVILEGED + number)
    assert owner == 0, "no other process of that uid may look into it"
    assert first == " ".join([nobody] * 6) + " [] 7", "three streams, three files, and the listing itself"
    fields = dict(line.split(":\t") for line in status)
    assert fields.pop("NoNewPrivs") == "1"
    assert {fields[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}


def test_verify_holds_only_so_many_files(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_files, "_files", {})
    monkeypatch.setattr(held_files, "_directories", set())
    for number in range(held_files.MOST + 9):
        (private / f"{number}").touch()
    held = held_files.hold([str(path) for path in private.iterdir()])
    for fd in held:
        os.close(fd)
    assert len(held) == held_files.MOST


TAKEN = """
import sys
from mvmnix.system import system_user
system_user.become(sys.argv[1])
from mvmnix.builder.flakes.flake_source import take_flake
from mvmnix.model import FlakeRef
print(take_flake(FlakeRef.parse(sys.argv[2] + "#x")).commit)
"""


def test_a_repository_of_root_s_alone_is_read(user: pwd.struct_passwd) -> None:
    """A checkout that root made, by git itself; and none that others can change."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-of-root-", dir="/srv") as place:
        Path(place).chmod(0o755)
        shutil.copytree(ROOT / "examples/hello", place, dirs_exist_ok=True)
        made = commit(Path(place))
        argv = [sys.executable, "-P", "-c", TAKEN, user.pw_name, place]
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
        assert done.stdout.strip() == made, done.stderr
        Path(place).chmod(0o777)
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
        assert "belongs to root, and others can change it" in done.stderr


def test_a_plain_user_names_no_other(user: pwd.struct_passwd) -> None:
    dropped = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    for name, code, words in ((user.pw_name, 0, ""), ("daemon", 2, "is for root alone")):
        argv = [*dropped, *map(str, Home.argv("--user", name, "ps"))]
        done = subprocess.run(argv, env={"HOME": user.pw_dir}, cwd="/", capture_output=True, check=False)
        assert done.returncode == code, done.stderr.decode()
        assert words in done.stderr.decode()


def test_root_s_own_state_stays_where_it_is(user: pwd.struct_passwd, tmp_path: Path) -> None:
    """What an earlier mvm of root's left is neither read nor changed."""
    of_root = make_home(tmp_path / "home")
    (of_root.state / "machines").mkdir(parents=True)
    (of_root.state / "machines/register.json").write_text("{}")
    done = mvm(user, "ps", env={"HOME": of_root.path})
    assert done.returncode == 0, done.stderr.decode()
    assert (of_root.state / "machines/register.json").read_text() == "{}"


def test_a_test_of_root_s_names_the_user(tmp_path: Path) -> None:
    """Or it would work in the system user's own home."""
    of_root = make_home(tmp_path / "home")
    with pytest.raises(AssertionError, match="mvm --user NAME ps"):
        of_root.mvm("ps")
    assert of_root.mvm("schema").returncode == 0
