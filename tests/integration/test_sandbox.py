"""What a helper finds in the sandbox, looked at from inside; what the owner of the machine configured is not there."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from mvmnix.builder.fetch.unpack import NIX
from mvmnix.errors import MvmnixError
from mvmnix.sandbox import bubblewrap, git, helper, helper_command, landlock
from mvmnix.sandbox.helper import Bounds, Sandbox
from mvmnix.sandbox.trusted_executables import Candidates
from mvmnix.system.process import ProcessError
from tests.fakes import Repository
from tests.patience import EVENT_PATIENCE, SHORT

pytestmark = pytest.mark.integration
_MIB = 1 << 20


def program(name: str) -> Candidates:
    return Candidates(name, (f"/usr/bin/{name}",), "")


def said(sandbox: Sandbox, script: str, *arguments: str) -> str:
    return sandbox.script(script, *arguments).stdout.decode().strip()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a git configuration that would be noticed, and secrets in the environment."""
    home = tmp_path / "home"
    (home / ".config/nix").mkdir(parents=True)
    (home / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {home}/hooks\n[filter "x"]\n\tsmudge = {home}/hooks/run\n\trequired = true\n'
        f'[url "https://elsewhere.test/"]\n\tinsteadOf = https://\n[core]\n\tattributesFile = {home}/attributes\n'
    )
    (home / ".config/nix/nix.conf").write_text("substituters = https://evil.test\nextra-experimental-features = x\n")
    (home / "secret").write_text("the owner's")
    for name, value in {"HOME": str(home), "TOKEN": "the-owners-secret", "http_proxy": "http://proxy.test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")  # by which the tests' own gits leave this file alone
    return home


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_network() -> None:
    assert said(Sandbox(), "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '") == "lo"
    with listening() as port:
        with socket.create_connection(("127.0.0.1", port)):
            """The server is there, for us."""
        with pytest.raises(ProcessError, match="onnect"):
            Sandbox().run(program("curl"), "--silent", "--show-error", "--max-time", "5", f"http://127.0.0.1:{port}/")


def test_no_socket_of_the_users_files_is_connected_to(tmp_path: Path) -> None:
    """A daemon listens in a work tree: a mount that is read-only doesn't keep connections away (unix(7))."""
    script = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
"""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "daemon"))
        daemon.listen()
        subprocess.run(("/usr/bin/python3", "-I", "-c", script, str(tmp_path / "daemon")), check=True)
        with pytest.raises(ProcessError, match="Operation not permitted"):
            Sandbox({"/tree": tmp_path}).run(program("python3"), "-I", "-c", script, "/tree/daemon")


def test_no_home_no_host_files_no_environment(home: Path, tmp_path: Path) -> None:
    listed = set(said(Sandbox(), "ls -A /").split())
    assert listed <= {"bin", "dev", "etc", "lib", "lib32", "lib64", "nix", "proc", "run", "sbin", "usr", "work"}
    assert set(said(Sandbox(), "ls /etc").split()) <= {"ssl", "ca-certificates", "pki", "alternatives", "ld.so.cache"}
    assert said(Sandbox(), 'ls -A "$HOME" "$TMPDIR"').replace("/work/home:", "").split() == ["/work/temporary:"]
    assert said(Sandbox(), '[ -e "$1" ] || echo gone', str(home / "secret")) == "gone"
    environment = said(Sandbox(), "env")
    assert "the-owners-secret" not in environment
    assert "proxy" not in environment.lower()


def test_nobody_with_no_power() -> None:
    status = said(Sandbox(), "cat /proc/self/status")
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert said(Sandbox(), "id -u") == "65534"
    assert "dbus" not in said(Sandbox(), "ls /proc; readlink /proc/[0-9]*/exe || true")  # its own processes alone
    with pytest.raises(ProcessError):
        Sandbox().run(program("unshare"), "--user", "true")


def test_the_system_is_read_only_and_the_callers_files_too(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("as it is")
    sandbox = Sandbox(files={"/given": tmp_path / "given"})
    for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/dev/shm/x", "/given"):
        assert said(sandbox, '(echo x >"$1") 2>/dev/null || echo refused', path) == "refused", path
    assert said(sandbox, "cat /given; echo x >here; echo x >/dev/null") == "as it is"
    assert (tmp_path / "given").read_text() == "as it is"


def test_what_one_sandbox_wrote_the_next_does_not_see() -> None:
    said(Sandbox(), "echo x >left")
    assert said(Sandbox(), "ls -A /work") == "home\ntemporary"


@pytest.mark.parametrize("shell", ["/bin/dash", "/bin/bash"])
def test_limits_are_those_of_the_bounds(shell: str) -> None:
    """By each shell that a system may have as sh."""
    bounds = Bounds(output=4 * _MIB + 1, memory=512 * _MIB, processes=17)
    command = helper_command.Command(helper_command.Programs.find(), {}, bounds)
    argv = command._inside()
    script = argv[argv.index("-c") :]
    done = subprocess.run(
        ["sh", *script, "cat", "/proc/self/limits"], executable=shell, input=b"go\n", capture_output=True, check=True
    )
    limits = {line[:26].strip(): line[26:].split()[:2] for line in done.stdout.decode().splitlines()}
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max file size"] == [str(4 * _MIB + 512)] * 2
    assert limits["Max address space"] == [str(512 * _MIB)] * 2
    assert limits["Max processes"] == ["17", "17"]
    assert limits["Max open files"] == ["1024", "1024"]


def test_room_output_time_and_memory_are_bounded() -> None:
    small = Bounds(room=8 * _MIB, output=4 * _MIB, seconds=EVENT_PATIENCE)
    for script in (
        "i=0; while :; do i=$((i+1)); head -c 1048576 /dev/zero >file$i; done",  # many small files
        "head -c 5000000 /dev/zero >file",  # one large one
        "cat /dev/zero",
        "exec cat /dev/zero >&2",
    ):
        with pytest.raises(ProcessError) as caught:
            Sandbox(bounds=small).script(script)
        assert caught.value.done.status != 124, script
    assert said(Sandbox(bounds=Bounds(processes=77)), "ulimit -p") == "77"
    with pytest.raises(ProcessError, match="124"):
        Sandbox(bounds=Bounds(seconds=SHORT)).run(program("sleep"), "1000")
    with pytest.raises(ProcessError):
        Sandbox(bounds=Bounds(memory=64 * _MIB)).run(program("python3"), "-c", "len(bytearray(2**30))")


def test_no_room_of_the_callers_disk_is_taken_behind_the_limit(tmp_path: Path) -> None:
    """Output goes to a file of the caller's, and fallocate(2) needs no byte to be written for what it takes."""
    script = """
import ctypes
fallocate = ctypes.CDLL(None).fallocate
fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
for mode in range(0x80):
    fallocate(1, mode, 0, 64 << 20)
    fallocate(1, mode, 1 << 20, 64 << 20)
"""
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        Sandbox(bounds=Bounds(output=_MIB)).run(program("python3"), "-I", "-c", script, output=file)
        assert os.fstat(file.fileno()).st_blocks * 512 <= 2 * _MIB


def test_output_goes_to_the_file_that_is_given() -> None:
    with tempfile.TemporaryFile() as file:
        assert Sandbox().run(program("printf"), "%s", "a b", output=file).stdout == b""
        file.seek(0)
        assert file.read() == b"a b"


def test_nothing_of_a_users_git_is_applied(home: Path, tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "repository", {"a": "x"})
    evil = repository.path / ".git/hooks/post-checkout"
    evil.write_text("#!/bin/sh\necho hooked >/work/hooked\n")
    evil.chmod(0o755)
    subprocess.run(["git", "config", "--global", "--get", "filter.x.required"], check=True, env=os.environ)
    sandbox = Sandbox({"/repository": repository.path})
    config = said(sandbox, "git config --list --show-origin; git config --get-urlmatch url https://a.test/ || true")
    assert "insteadof" not in config.lower()
    assert str(home) not in config
    script = """
        git init --quiet here; cd here; cp -r /repository/.git/objects /repository/.git/hooks .git/
        git checkout --quiet "$1"; ls /work
        GIT_CONFIG_COUNT=0 git checkout --quiet "$1"; echo and then; ls /work
    """
    ours, theirs = said(sandbox, script, repository.git("rev-parse", "HEAD")).split("and then")
    assert "hooked" not in ours
    assert "hooked" in theirs  # it would have run


@pytest.mark.parametrize("url", ["/repository", "file:///repository", "ssh://git@127.0.0.1/x", "ext::touch /work/x"])
def test_git_speaks_http_alone(tmp_path: Path, url: str) -> None:
    repository = Repository.make(tmp_path / "repository")
    with pytest.raises(ProcessError, match="not allowed"):
        Sandbox({"/repository": repository.path}).run(program("git"), "clone", "--", url, "there")


def test_a_secret_setting_stands_on_no_command_line(tmp_path: Path) -> None:
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(path.read_bytes().decode(errors="replace"))
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        key = "http.https://h.test/.extraHeader"
        sandbox = Sandbox(environment=git.environment({key: "Authorization: the-secret"}))
        assert said(sandbox, 'sleep 0.3; git config "$1"', key) == "Authorization: the-secret"
    finally:
        done.set()
        watcher.join()
    assert any("bwrap" in one for one in seen)
    assert not any("the-secret" in one for one in seen)


def test_nix_has_a_store_and_configuration_of_its_own(home: Path) -> None:
    shown = said(Sandbox(environment=NIX), "nix config show")
    assert "evil.test" not in shown
    assert "\nsubstitute = false" in shown
    assert "\nflake-registry = \n" in shown


@pytest.mark.parametrize(("module", "name"), [(bubblewrap, "BUBBLEWRAP"), (helper_command, "UNSHARE"), (helper, "SH")])
def test_a_missing_program_is_named_with_its_package(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, Candidates("the program", ("/none",), "apt-get install it"))
    with pytest.raises(MvmnixError, match="the program is not installed") as caught:
        Sandbox().script("true")
    assert caught.value.hint == "apt-get install it"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvmnixError, match=r"the sandbox can't be made: .*/nowhere"):
        Sandbox({"/given": tmp_path / "nowhere"}).script("true")


@pytest.mark.parametrize(("size", "fits"), [(4 * _MIB, True), (4 * _MIB + 1, False)])
def test_the_most_that_it_may_write(size: int, fits: bool) -> None:
    sandbox = Sandbox(bounds=Bounds(output=4 * _MIB))
    if fits:
        assert len(sandbox.run(program("head"), "-c", str(size), "/dev/zero").stdout) == size
        return
    with pytest.raises(ProcessError, match="it wrote more than it may") as caught:
        sandbox.run(program("head"), "-c", str(size), "/dev/zero")
    assert caught.value.done.status == -signal.SIGKILL


def test_another_thread_ends_it() -> None:
    reading, writing = os.pipe()
    threading.Timer(0.3, os.close, [writing]).start()
    with pytest.raises(ProcessError, match="it was cancelled"):
        Sandbox(cancelled=reading).run(program("sleep"), "600")
    os.close(reading)


def test_a_conversation() -> None:
    with Sandbox().talk('while read -r line; do echo "heard $line"; done') as (to, heard):
        for word in (b"one", b"two"):
            to.write(word + b"\n")
            assert heard.readline() == b"heard " + word + b"\n"


def test_a_conversation_that_breaks_says_why() -> None:
    with (
        pytest.raises(ProcessError, match="its last words") as caught,
        Sandbox().talk("read -r line; echo its last words >&2; exit 3") as (to, heard),
    ):
        to.write(b"one\n")
        if not heard.readline():
            raise EOFError
    assert caught.value.done.status == 3


def test_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert said(Sandbox(), "grep Seccomp: /proc/self/status") == "Seccomp:\t2"
