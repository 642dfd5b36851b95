"""References are followed with care, and what is wrong with one is said without what it leads to."""

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import override

import keyring
import pytest
from keyring.backend import KeyringBackend

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.launch.secrets import resolve as room
from mvmnix.launch.secrets.resolve import resolve_secrets
from mvmnix.plan.secret_reference import (
    LARGEST_SECRET,
    LARGEST_SECRETS,
    SecretReference,
    SecretSource,
    SecretTarget,
)
from tests.descriptors import open_below
from tests.patience import until

SECRET = "hush-hunter2"


def value(text: str, target: SecretTarget = SecretTarget.FILE) -> bytes:
    (found,) = resolve_secrets([SecretReference.parse(text, target)])
    return found.value


def refusal(text: str, target: SecretTarget = SecretTarget.FILE) -> str:
    with pytest.raises(RefusedError) as refused:
        value(text, target)
    assert set(refused.value.codes) == {ReasonCode.SECRET_UNAVAILABLE}
    assert SECRET not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return path


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """An executable that is a shell script: a program of the user's own."""

    def make(text: str) -> Path:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return path

    return make


def test_a_variable_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIDED", SECRET)
    assert value("A=env:CONFIDED") == SECRET.encode()
    monkeypatch.setenv("CONFIDED", "")
    assert "there is nothing" in refusal("A=env:CONFIDED")
    monkeypatch.delenv("CONFIDED")
    assert "there is nothing: the environment variable CONFIDED is not set" in refusal("A=env:CONFIDED")


def test_a_file_byte_for_byte(file: Path) -> None:
    file.write_bytes(b"\0\xff\n")
    assert value(f"A=file:{file}") == b"\0\xff\n"
    file.write_text(f"{SECRET}\n")
    assert value(f"A=file:{file}", SecretTarget.VARIABLE) == SECRET.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666])
def test_a_file_that_others_may_use(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert "chmod 600" in refusal(f"A=file:{file}")


def test_a_file_of_somebody_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold what they chose; root's may be read."""
    looked, owner = os.fstat, [0]

    def fstat(fd: int) -> os.stat_result:
        found = looked(fd)
        return os.stat_result((*found[:4], *owner, *found[5:])) if stat.S_ISREG(found.st_mode) else found

    ours = {**vars(os), "fstat": fstat, "geteuid": lambda: 4321}  # not for what looks at the directories
    monkeypatch.setattr(room, "os", SimpleNamespace(**ours))
    for owner[0] in (1, 4711):
        assert f"it belongs to uid {owner[0]}" in refusal(f"A=file:{file}")
    for owner[0] in (0, 4321):
        assert value(f"A=file:{file}") == SECRET.encode()


def test_a_file_behind_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    said = refusal(f"A=file:{tmp_path}/link")
    assert f"it is a symbolic link: name the real one, {file}" in said
    (tmp_path / "directory").symlink_to(tmp_path)
    said = refusal(f"A=file:{tmp_path}/directory/secret")
    assert "symbolic link" in said
    assert f"name the real one, {file}" in said


def test_a_file_that_somebody_could_exchange(file: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert f"{tmp_path}: others than its owner may write to it" in refusal(f"A=file:{file}")


def test_what_is_no_file(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "dir").mkdir(mode=0o700)
    assert "not a regular file" in refusal(f"A=file:{tmp_path}/fifo")
    assert "Is a directory" in refusal(f"A=file:{tmp_path}/dir")
    assert "No such file" in refusal(f"A=file:{tmp_path}/none")
    file.write_bytes(b"")
    assert "there is nothing" in refusal(f"A=file:{file}")
    assert not open_below(tmp_path)
    file.write_bytes(b"x" * (LARGEST_SECRET + 1))
    assert "larger" in refusal(f"A=file:{file}")
    file.write_bytes(b"x" * LARGEST_SECRET)
    assert len(value(f"A=file:{file}")) == LARGEST_SECRET


@pytest.mark.parametrize("source", [SecretSource.FILE, SecretSource.COMMAND])
def test_a_newline_follows_the_largest_variable(
    file: Path, script: Callable[[str], Path], source: SecretSource
) -> None:
    """What follows the newline is not cut off: the value is too large then."""
    text = f"A={source}:{file if source is SecretSource.FILE else script(f'exec cat {file}')}"
    for data in (b"x" * LARGEST_SECRET, b"x" * LARGEST_SECRET + b"\n"):
        file.write_bytes(data)
        assert value(text, SecretTarget.VARIABLE) == b"x" * LARGEST_SECRET
    for data in (b"x" * LARGEST_SECRET + b"\ny", b"x" * LARGEST_SECRET + b"\n\n", b"x" * (LARGEST_SECRET + 1)):
        file.write_bytes(data)
        assert "larger" in refusal(text, SecretTarget.VARIABLE)


def test_an_error_without_words(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(room, "walk", walk)
    assert "it can't be read" in refusal(f"A=file:{file}")


def test_a_variable_holds_text(file: Path) -> None:
    for data in (b"a\0b", b"\xff"):
        file.write_bytes(data)
        assert "have it as a file" in refusal(f"A=file:{file}", SecretTarget.VARIABLE)


def test_all_together_are_bounded(file: Path) -> None:
    file.write_bytes(b"x" * LARGEST_SECRET)
    many = [
        SecretReference.parse(f"A{n}=file:{file}", SecretTarget.FILE)
        for n in range(LARGEST_SECRETS // LARGEST_SECRET + 1)
    ]
    with pytest.raises(RefusedError, match="all secrets together") as refused:
        resolve_secrets(many)
    assert [reason.what for reason in refused.value.reasons] == ["the secret A2"]
    with pytest.raises(RefusedError) as refused:
        resolve_secrets([*many, SecretReference.parse("B=env:NOT_SET", SecretTarget.FILE)])
    assert [reason.what for reason in refused.value.reasons] == ["the secret B", "the secret B"]
    assert len(resolve_secrets(many[:-1])) == len(many) - 1


def test_a_command_that_prints_it(script: Callable[[str], Path]) -> None:
    program = script('printf "%s|%s|%s\\n" "$1" "$2" "$LEAK"')
    os.environ["LEAK"] = "inherited"
    assert value(f"A=command:{program} 'a b' '$HOME'") == b"a b|$HOME|"
    del os.environ["LEAK"]


def test_a_command_leaves_nothing_open(script: Callable[[str], Path], tmp_path: Path) -> None:
    assert value(f"A=command:{script(f'echo {SECRET}')}") == SECRET.encode()
    assert not open_below(tmp_path)


def test_a_command_in_a_process_with_many_descriptors(script: Callable[[str], Path]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert value(f"A=command:{script(f'echo {SECRET}')}", SecretTarget.VARIABLE) == SECRET.encode()
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_command_that_fails(script: Callable[[str], Path]) -> None:
    assert "status 3" in refusal(f"A=command:{script(f'echo {SECRET}; echo {SECRET} >&2; exit 3')}")


def test_a_command_that_fails_after_the_most_that_is_read(script: Callable[[str], Path], file: Path) -> None:
    file.write_bytes(b"x" * LARGEST_SECRET + b"\n")
    assert "status 3" in refusal(f"A=command:{script(f'cat {file}; exit 3')}")


def test_a_command_that_prints_too_much(script: Callable[[str], Path]) -> None:
    assert "larger" in refusal(f"A=command:{script('exec yes')}")


def test_a_command_that_takes_too_long(script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PATIENCE", 0.3)
    for text in (f"echo {SECRET}; exec sleep 1000", "exec >&-; sleep 1000"):
        assert "no end after 0.3 s" in refusal(f"A=command:{script(text)}")


def test_what_a_command_leaves_is_killed(script: Callable[[str], Path], tmp_path: Path) -> None:
    """It holds the pipe open, and nobody waits for it."""
    assert value(f"A=command:{script(f'sleep 1000 & echo $! >{tmp_path}/pid; echo x')}") == b"x"
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def test_a_program_that_is_not_to_be_trusted(script: Callable[[str], Path], tmp_path: Path) -> None:
    program = script("echo x")
    (tmp_path / "link").symlink_to(program)
    assert f"name the real one, {program}" in refusal(f"A=command:{tmp_path}/link")
    (tmp_path / "directory").symlink_to(tmp_path)
    said = refusal(f"A=command:{tmp_path}/directory/program")
    assert f"{tmp_path}/directory: it is a symbolic link or no directory: name the real one, {program}" in said
    program.chmod(0o722)
    assert "may write to it" in refusal(f"A=command:{program} argument")
    program.chmod(0o600)
    assert "A" in refusal(f"A=command:{program}")
    assert "No such file" in refusal(f"A=command:{tmp_path}/none")


class Remembers(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @override
    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise keyring.errors.KeyringLocked(SECRET)
        return SECRET if (service, username) == ("my/service", "me") else None

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError


def test_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyring.backend.get_all_keyring", lambda: [Remembers()])
    assert value("A=keyring:my/service/me") == SECRET.encode()
    assert "there is nothing" in refusal("A=keyring:my/service/you")
    assert "KeyringLocked" in refusal("A=keyring:locked/me")
    monkeypatch.setattr("keyring.backend.get_all_keyring", list)
    assert "no keyring" in refusal("A=keyring:my/service/me")


def test_no_configured_keyring_is_imported(tmp_path: Path) -> None:
    """Neither by a file in a configuration directory that may lie in a checkout, nor by a variable."""
    module = f"open({str(tmp_path / 'mark')!r}, 'w')\n"
    for name, text in {
        "evil.py": module,
        "python_keyring/keyringrc.cfg": f"[backend]\ndefault-keyring=evil.Keyring\nkeyring-path={tmp_path}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    script = "from mvmnix.launch.secrets.resolve import _keyring; _keyring(('s', 'n'))"
    configured = {"XDG_CONFIG_HOME": str(tmp_path), "PYTHON_KEYRING_BACKEND": "evil.Keyring", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", script], env=configured, capture_output=True, check=False)
    assert b"there is no keyring in this session" in done.stderr
    assert not (tmp_path / "mark").exists()


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        resolve_secrets([SecretReference.parse(f"A{n}=env:NOT_SET_{n}", SecretTarget.FILE) for n in range(3)])
    assert [reason.what for reason in refused.value.reasons] == [f"the secret A{n}" for n in range(3)]


def test_the_cause_is_kept() -> None:
    """So that the command line can say what to do about a file that can't be read."""
    with pytest.raises(RefusedError) as refused:
        resolve_secrets([SecretReference.parse("A=file:/proc/nonexistent/secret", SecretTarget.FILE)])
    assert isinstance(refused.value.__cause__, FileNotFoundError)


def test_nothing_heavy_is_imported_before_a_keyring_is_asked() -> None:
    program = "import sys, mvmnix.launch.secrets.resolve; sys.exit('keyring' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_how_large_secrets_may_be() -> None:
    """What docs/reference/secrets.md says, in bytes."""
    assert (LARGEST_SECRET, LARGEST_SECRETS) == (16384, 32768)
