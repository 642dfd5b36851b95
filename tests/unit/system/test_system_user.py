"""Who root's mvm becomes, and what of root's goes; tests/hostile/test_system_user.py takes the step itself."""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.system import control_groups, procfs, system_user
from tests.repository import ROOT

#: Variables that lead to root's files, load code, or set a library or a program up.
DROPPED = (
    *(
        "HOME",
        "USER",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
        "MVMNIX_LOG",
        "MVMNIX_ANYTHING",
        "TMPDIR",
        "TMP",
        "TEMP",
        "PWD",
    ),
    *(
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "MALLOC_CHECK_",
    ),
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "VIRTUAL_ENV", "PERL5LIB", "NODE_OPTIONS", "OPENSSL_CONF"),
    *("GIT_DIR", "GIT_CONFIG_GLOBAL", "GIT_SSH_COMMAND", "NIX_PATH", "NIX_REMOTE", "NIX_CONF_DIR", "BASH_ENV", "ENV"),
    *(
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "GNUPGHOME",
        "GPG_AGENT_INFO",
        "KRB5CCNAME",
        "XAUTHORITY",
        "DISPLAY",
    ),
    *("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "NETRC", "PIP_CONFIG_FILE", "SSLKEYLOGFILE", "TERMINFO", "HOSTALIASES"),
)
#: What says how servers are reached, in which language, on which terminal; and what a secret's reference may name.
KEPT = (
    *("https_proxy", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "NIX_SSL_CERT_FILE"),
    *(
        "NODE_EXTRA_CA_CERTS",
        "PIP_INDEX_URL",
        "APT_CONFIG",
        "LANG",
        "LC_ALL",
        "TZ",
        "TERM",
        "COLUMNS",
        "NO_COLOR",
        "CI",
    ),
    *("SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "API_TOKEN", "COMP_WORDS", "_MVM_COMPLETE"),
)
USER = pwd.struct_passwd(("mvmnix", "x", 990, 991, "", "/var/lib/mvmnix", "/usr/sbin/nologin"))


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_dropped(name: str) -> None:
    environment = {name: "root's"}
    system_user.replace_variables(environment, USER)
    assert "root's" not in environment.values()


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept(name: str) -> None:
    environment = {name: "the caller's"}
    system_user.replace_variables(environment, USER)
    assert environment[name] == "the caller's"


def test_what_is_set() -> None:
    environment = {"PATH": "/root/bin"}
    system_user.replace_variables(environment, USER)
    assert environment.pop("PATH").split(":")[0] == "/usr/local/bin"
    assert environment == {
        "HOME": "/var/lib/mvmnix",
        "USER": "mvmnix",
        "LOGNAME": "mvmnix",
        "SHELL": "/usr/sbin/nologin",
    }


def test_variables_are_dropped_before_control_groups_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """And before the module that does it is loaded, by a program of root's."""
    done = list[str]()

    def hand_over(*_: int) -> str:
        done.append("groups")
        raise OSError

    monkeypatch.setattr(system_user, "_refuse_threads", lambda: None)
    monkeypatch.setattr(system_user, "look_up", lambda _: USER)
    monkeypatch.setattr(system_user, "replace_variables", lambda *_: done.append("variables"))
    monkeypatch.setattr(control_groups, "hand_over", hand_over)
    monkeypatch.setattr(os, "seteuid", lambda _: None)
    with pytest.raises(MvmnixError, match="can't become mvmnix"):
        system_user.become("mvmnix")
    assert done == ["variables", "groups"]


def test_root_is_refused_by_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 0, 0, "", "/root", "/bin/sh")))
    for name in ("root", "toor"):
        with pytest.raises(UsageError, match=f"{name} is root, as whom mvm never runs"):
            system_user.look_up(name)


@pytest.mark.parametrize("has_kvm", [True, False])
def test_a_user_that_is_missing(monkeypatch: pytest.MonkeyPatch, has_kvm: bool) -> None:
    monkeypatch.setattr(system_user, "_has_kvm", lambda: has_kvm)
    with pytest.raises(MvmnixError, match="there is no user no-such-user") as caught:
        system_user.look_up("no-such-user")
    assert not system_user.exists("no-such-user")
    assert caught.value.hint.startswith("as root: useradd --system --create-home --home-dir /var/lib/no-such-user ")
    assert ("--groups kvm no-such-user" in caught.value.hint) is has_kvm


@pytest.mark.parametrize(
    ("uids", "gids", "groups", "capabilities"),
    [
        ((7, 7, 0), (9, 9, 9), [9], 0),
        ((0, 7, 7), (9, 9, 9), [9], 0),
        ((7, 7, 7), (9, 9, 0), [9], 0),
        ((7, 7, 7), (9, 9, 9), [9, 0], 0),
        ((7, 7, 7), (9, 9, 9), [9], 1),
        ((8, 8, 8), (9, 9, 9), [9], 0),
    ],
    ids=["saved uid", "real uid", "saved gid", "root's group", "a capability", "another uid"],
)
@pytest.mark.parametrize("kind", ["CapInh", "CapPrm", "CapEff", "CapAmb"])
def test_whatever_is_left_of_root_s_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    uids: tuple[int, int, int],
    gids: tuple[int, int, int],
    groups: list[int],
    capabilities: int,
    kind: str,
) -> None:
    def refused(_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "getresuid", lambda: uids)
    monkeypatch.setattr(os, "getresgid", lambda: gids)
    monkeypatch.setattr(os, "getgroups", lambda: groups)
    monkeypatch.setattr(os, "setuid", refused)
    monkeypatch.setattr(os, "setgid", refused)
    monkeypatch.setattr(procfs, "capabilities", lambda _: {kind: capabilities, "CapBnd": 1})
    with pytest.raises(PermissionError, match="is left"):
        system_user._check(7, 9)
    monkeypatch.setattr(os, "getresuid", lambda: (7, 7, 7))
    monkeypatch.setattr(os, "getresgid", lambda: (9, 9, 9))
    monkeypatch.setattr(os, "getgroups", lambda: [9])
    monkeypatch.setattr(procfs, "capabilities", lambda _: {kind: 0, "CapBnd": 1})
    system_user._check(7, 9)
    for name in ("setuid", "setgid"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda _: None)
            with pytest.raises(PermissionError, match="can be had again"):
                system_user._check(7, 9)


def test_a_directory_is_left_that_no_path_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed/open").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "closed/open")
    assert system_user._leave_closed() == ""
    assert Path.cwd() == tmp_path / "closed/open"
    (tmp_path / "closed").chmod(0)
    assert system_user._leave_closed() in {str(tmp_path / "closed/open"), "(unreachable)"}
    assert Path.cwd() == Path("/")
    (tmp_path / "closed").chmod(0o700)


def test_another_directory_under_its_path_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path))
    assert system_user._leave_closed() == str(tmp_path)


def test_a_program_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    system_user._refuse_closed_program()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/usr" and access(path, mode))
    monkeypatch.setattr("sys.prefix", "/usr")
    with pytest.raises(MvmnixError, match=re.escape("this program lies in /usr, and /usr is closed to uid")) as caught:
        system_user._refuse_closed_program()
    assert "chmod a+rx /usr" in caught.value.hint


@pytest.mark.parametrize("uids", [(0, 0, 0), (0, 7, 7), (7, 0, 7), (7, 7, 0)])
def test_nothing_starts_in_a_process_of_root_s(monkeypatch: pytest.MonkeyPatch, uids: tuple[int, int, int]) -> None:
    monkeypatch.setattr(os, "getresuid", lambda: uids)
    with pytest.raises(MvmnixError, match="this process is root's"):
        system_user.refuse_root()
    monkeypatch.setattr(os, "getresuid", lambda: (7, 7, 7))
    system_user.refuse_root()


@pytest.mark.parametrize(
    ("uids", "gids", "expected"),
    [
        ("0 0 4294967295", "0 0 4294967295", system_user.UNPRIVILEGED + os.getpid()),
        ("0 1000 1\n1 100000 65536", "0 1000 1\n1 100000 65536", 65_536),
        ("0 100000 65536", "0 100000 65536", 65_535),
        ("0 100000 65535", "0 100000 65536", 65_533),
        ("0 1000 1", "0 1000 1", None),
        ("0 0 4294967295", "0 1000 1", None),
    ],
    ids=["the host", "rootless podman", "remapped", "not the overflow uid", "root alone", "one group"],
)
def test_who_owns_nothing(tmp_path: Path, uids: str, gids: str, expected: int | None) -> None:
    for name, text in (("uid_map", uids), ("gid_map", gids)):
        (tmp_path / name).write_text(f"{text}\n")
    maps = [str(tmp_path / name) for name in ("uid_map", "gid_map")]
    if expected is None:
        with pytest.raises(MvmnixError, match="no uid to give its rights up for"):
            system_user.find_unprivileged(maps)
    else:
        assert system_user.find_unprivileged(maps) == expected


def test_nobody_who_is_somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where a directory service gives such uids away."""
    (tmp_path / "map").write_text("0 0 4294967295\n")

    def somebody(uid: int) -> pwd.struct_passwd:
        if uid == system_user.UNPRIVILEGED + os.getpid():
            return USER
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", somebody)
    assert system_user.find_unprivileged([str(tmp_path / "map")] * 2) == 2**32 - 2


def test_a_process_with_threads_takes_no_step() -> None:
    """Filters, keys and capabilities are a thread's: the others would keep root's."""
    for beside, ended in (("", 0), ("threading.Thread(target=threading.Event().wait, daemon=True).start()", 1)):
        script = f"import threading; from mvmnix.system import system_user; {beside}\nsystem_user._refuse_threads()"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, "has threads" in done.stderr) == (ended, bool(ended)), done.stderr
