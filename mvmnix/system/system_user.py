"""Turns a process of root's into one of the system user `mvmnix`, for good: the only step that root's mvm takes.

It is taken before anything but the command line is read. From there on this process is a plain user's like any other.

1. The user is the one that the command line names, or USER. It isn't root.
2. Variables that lead to root's files, or load code, are dropped (OF_ROOT).
3. This process goes into control groups that the user may divide, where root can hand any over
   (control_groups.hand_over).
4. All descriptors but standard input, output and error are closed; the session keyring holds nothing; a terminal that
   none of these three is, is left; and nothing can be typed into root's terminal (TIOCSTI, ioctl_tty(2)), where root
   may set a filter of system calls.
5. The groups, gid and uid become the user's; no capability stays, not in any set.
6. No way leads back: that is looked at, and tried.
7. The working directory stays where the user gets to it by its path. Otherwise it is `/`, for a directory that is
   closed above would hold its files open.

PR_SET_NO_NEW_PRIVS isn't set: a plain user's machines get their uids from newuidmap(1) and newgidmap(1), which are
set-user-ID programs, and none of those that a user may run knows this user. `become_unprivileged` does set it. Its
process has a uid that no other one has, and no process may look into it: what root named it holds open.
"""

import errno
import fcntl
import os
import platform
import pwd
import re
import struct
import sys
import termios
from collections.abc import Collection, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import shell_command
from mvmnix.system import prctl, procfs, session_keyring

USER: Final = "mvmnix"
HOME: Final = f"/var/lib/{USER}"
#: From here on uids and gids that own nothing, one for each process id (proc_pid_max(5)), beyond users, subordinate ids
#: and what systemd gives to services and containers (its UIDS-GIDS document: 1879048192 and up is unused). `nobody` is
#: never used: other programs run as it.
UNPRIVILEGED: Final = 1_900_543_999
#: Ids that are looked at in its place where a user namespace lacks it; the one that stands for owners unknown there.
_TRIED, _OVERFLOW = 16, 65534
#: Variables of root's that are dropped: those that say where root's own files, sockets and temporary files are, those
#: by which a loader, an interpreter or a library loads code or data, and those that give git, Nix or ssh settings.
#: What says how servers are reached stays: proxies, certificates, apt, pip.
OF_ROOT: Final = (
    r"HOME|USER|LOGNAME|SHELL|MAIL|PWD|OLDPWD|ENV|BASH_ENV|CDPATH|XDG_\w+|MVMNIX_\w+|TMPDIR|TMP|TEMP|HISTFILE"
    r"|LD_\w+|GLIBC_\w+|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_\w+|GETCONF_DIR|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|TZDIR"
    r"|PYTHON\w*|VIRTUAL_ENV|PERL\w+|RUBY\w+|NODE_(?!EXTRA_CA_CERTS$)\w+|OPENSSL_\w+|SSLKEYLOGFILE|TERMINFO\w*"
    r"|GIT_(?!SSL_CAINFO$)\w+|NIX_(?!SSL_CERT_FILE$)\w+|NIXPKGS_\w+|DBUS_\w+|DISPLAY|WAYLAND_\w+|XAUTHORITY"
    r"|SSH_\w+|GNUPGHOME|GPG_\w+|KRB5\w+|DOCKER_CONFIG|REGISTRY_AUTH_FILE|NETRC|PIP_CONFIG_FILE|QEMU_\w+|G_\w+|GIO_\w+"
)
#: The highest number of a descriptor.
_LAST: Final = 2**31 - 1
#: Where programs are looked for from then on; mvm itself starts none by its name.
_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Become:
    """What came of the step; "" where there is nothing to say."""

    #: Why there are no control groups.
    obstacle: str = ""
    #: The working directory that was closed.
    left: str = ""


def become(name: str) -> Become:
    """Become a user, as root, in a process without threads.

    Raises UsageError for root, MvmnixError where there is no such user or the step fails: then this process must end.
    """
    _refuse_threads()
    user = look_up(name)  # 1
    replace_variables(os.environ, user)  # 2
    try:
        from mvmnix.system import control_groups  # noqa: PLC0415 - the other step doesn't pay for it

        os.seteuid(0)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        obstacle = control_groups.hand_over(user.pw_uid, user.pw_gid)  # 3
        _let_go(())  # 4
        os.setgroups(groups)  # 5
        _take(user.pw_uid, user.pw_gid)
        prctl.set_dumpable(dumpable=True)  # or /proc/self would be root's
        _check(user.pw_uid, user.pw_gid)  # 6
        _refuse_closed_program()
        return Become(obstacle, _leave_closed())  # 7
    except OSError as error:
        raise _failed(user.pw_name, error) from error


def become_unprivileged(kept: Collection[int] = ()) -> None:
    """Become a user who owns nothing, and gain nothing by any program; what is `kept` of descriptors stays open.

    Raises MvmnixError where it fails: then this process must end.
    """
    _refuse_threads()
    uid = find_unprivileged()
    try:
        os.seteuid(0)
        drop_variables(os.environ)
        _let_go(kept)
        os.setgroups([])
        _take(uid, uid)
        prctl.forbid_new_privileges()
        _check(uid, uid)
        _refuse_closed_program()
        _leave_closed()
    except OSError as error:
        raise _failed(f"uid {uid}", error) from error


def find_unprivileged(maps: Sequence[str] = ("/proc/self/uid_map", "/proc/self/gid_map")) -> int:
    """Find a uid and gid that own nothing: one of this process's own, or the last one of a container that lacks it.

    Not one that the password file has, nor the overflow uid. Raises MvmnixError where there is none.
    """
    ids = [procfs.id_map(procfs.lines_or_none(Path(path))) for path in maps]
    last = min(max((one.stop for one in each), default=1) for each in ids) - 1
    for uid in chain((UNPRIVILEGED + os.getpid(),), range(last, max(0, last - _TRIED), -1)):
        with suppress(KeyError):
            pwd.getpwuid(uid)
            continue
        if uid != _OVERFLOW and all(any(uid in one for one in each) for each in ids):
            return uid
    raise MvmnixError("this root has no uid to give its rights up for", hint="run mvm as a plain user")


def _refuse_threads() -> None:
    """Another thread would keep filters, keys and rights of root's that go thread by thread. Raises MvmnixError."""
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - names
        hint = "take the step at once, before anything that starts a thread"
        raise MvmnixError("this process has threads, so it can't leave root's rights", hint=hint)


def refuse_root() -> None:
    """Raises MvmnixError in a process of root's: it takes the step first, and starts nothing of a stranger's before."""
    if 0 in os.getresuid():
        hint = "call mvmnix.api.become_system_user() first, or run the program as a plain user"
        raise MvmnixError("this process is root's, and mvm works as a plain user alone", hint=hint)


def look_up(name: str) -> pwd.struct_passwd:
    """Look a user up in the password file. Raises UsageError for root, MvmnixError where there is none."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        what = f"there is no user {name}, as whom mvm runs where root starts it"
        raise MvmnixError(what, hint=f"as root: {command_for(name)}") from None
    if user.pw_uid == 0:
        raise UsageError(f"{name} is root, as whom mvm never runs", hint=f"leave --user out: it is {USER} then")
    return user


def exists(name: str) -> bool:
    """Whether there is a user of this name."""
    with suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def command_for(name: str) -> str:
    """The line for root that makes the user."""
    home = HOME if name == USER else f"/var/lib/{name}"
    groups = " --groups kvm" if _has_kvm() else ""
    options = f"--system --create-home --home-dir {home} --shell /usr/sbin/nologin --add-subids-for-system{groups}"
    return f"useradd {options} {name}"


def _has_kvm() -> bool:
    return any(line.startswith("kvm:") for line in procfs.lines_or_none(Path("/etc/group")))


def replace_variables(environment: MutableMapping[str, str], user: pwd.struct_passwd) -> None:
    """Drop what is root's, and set what login(1) sets.

    >>> from pwd import struct_passwd
    >>> it = {"HOME": "/root", "LANG": "C", "LD_PRELOAD": "/x.so", "GIT_SSL_CAINFO": "/ca", "GIT_DIR": "/y"}
    >>> replace_variables(it, struct_passwd(("mvmnix", "x", 990, 990, "", "/var/lib/mvmnix", "")))
    >>> sorted(it.items())[:4]
    [('GIT_SSL_CAINFO', '/ca'), ('HOME', '/var/lib/mvmnix'), ('LANG', 'C'), ('LOGNAME', 'mvmnix')]
    """
    drop_variables(environment)
    own = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell, "PATH": _PATH}
    environment.update(own)


def drop_variables(environment: MutableMapping[str, str]) -> None:
    """Drop what is root's (OF_ROOT)."""
    for name in [name for name in environment if re.fullmatch(OF_ROOT, name)]:
        del environment[name]


def _let_go(kept: Collection[int]) -> None:
    """Close descriptors, and have no hold on root's keys and terminal (4). Raises OSError, MvmnixError."""
    begin = 3
    for fd in (*sorted(kept), _LAST):
        os.closerange(begin, fd)
        begin = fd + 1
    session_keyring.renew()
    _leave_terminal()
    if platform.machine() == "x86_64":
        with suppress(PermissionError), os.fdopen(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as file:
            file.write(_typing_filter())
            file.seek(0)
            prctl.filter_system_calls(os.dup(file.fileno()))


def _leave_terminal() -> None:
    """Have no controlling terminal where none of the standard streams is one (TIOCNOTTY, ioctl_tty(2)).

    `/dev/tty` would lead to it. A session's leader keeps it: without it, all of its session would be hung up on.
    """
    if not any(map(os.isatty, range(3))) and os.getsid(0) != os.getpid():
        with suppress(OSError), open("/dev/tty", "rb", buffering=0) as terminal:  # noqa: PTH123
            fcntl.ioctl(terminal, termios.TIOCNOTTY)


def _typing_filter() -> bytes:
    """A filter of system calls (linux/filter.h, seccomp(2)) that denies to put input into a terminal, by any ABI."""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06  # BPF_LD+W+ABS; BPF_JMP+JEQ+K, +JGE+K; BPF_RET+K
    allow, deny = 0x7FFF_0000, 0x0005_0000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    number, architecture, request = 0, 4, 24  # of struct seccomp_data; the second argument's lower half
    program = (
        (load, 0, 0, architecture),
        (equal, 0, 3, 0xC000_003E),  # AUDIT_ARCH_X86_64
        (load, 0, 0, number),
        (at_least, 7, 0, 0x4000_0000),  # x32
        (equal, 3, 5, 16),  # ioctl
        (equal, 0, 4, 0x4000_0003),  # AUDIT_ARCH_I386
        (load, 0, 0, number),
        (equal, 0, 2, 54),  # ioctl
        (load, 0, 0, request),
        (equal, 1, 0, 0x5412),  # TIOCSTI
        (equal, 0, 1, 0x541C),  # TIOCLINUX, which pastes what is selected on a console
        (answer, 0, 0, deny | errno.EPERM),
        (answer, 0, 0, allow),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def _take(uid: int, gid: int) -> None:
    """Take uid and gid, and give up all capabilities. Raises OSError."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl.drop_capabilities()  # root's inheritable ones are left by a change of uid


def _check(uid: int, gid: int) -> None:
    """Raises OSError where this process has, or could get, any right of root's."""
    if {*os.getresuid()} != {uid} or {*os.getresgid()} != {gid} or 0 in (gid, *os.getgroups()):
        raise PermissionError(1, "a uid or gid is left", "setresuid")
    for setting in (os.setuid, os.setgid):
        try:
            setting(0)
        except PermissionError:
            continue
        raise PermissionError(1, "root's uid or gid can be had again", "setresuid")
    capabilities = procfs.capabilities(os.getpid())
    if any(held for name, held in capabilities.items() if name != "CapBnd"):
        raise PermissionError(1, "a capability is left", "capset")


def _leave_closed() -> str:
    """Leave a working directory that this user doesn't get to by its path (7); that path, or "". Raises OSError."""
    here = ""
    with suppress(OSError):
        here = os.getcwd()  # noqa: PTH109 - a text
        if os.path.samestat(os.stat(here), os.stat(".")) and os.access(here, os.X_OK):  # noqa: PTH116
            return ""
    os.chdir("/")
    return here or "(unreachable)"


def _refuse_closed_program() -> None:
    """Raises MvmnixError where this program lies in a directory that is closed to this process's user.

    What says so has to be imported before: the rest of the program can't be any more.
    """
    for path in (str(Path(__file__).parents[1]), sys.prefix, sys.base_prefix):
        if os.access(path, os.R_OK | os.X_OK):
            continue
        closed = next((str(it) for it in reversed(Path(path).parents) if not os.access(it, os.X_OK)), path)
        hint = (
            f"install it where every user may read it (/opt, /usr/local), or: {shell_command('chmod', 'a+rx', closed)}"
        )
        raise MvmnixError(
            f"this program lies in {path}, and {closed} is closed to uid {os.geteuid()}, as which it runs", hint=hint
        )


def _failed(name: str, error: OSError) -> MvmnixError:
    what = f"root's process can't become {name}: {error.filename or ''} {error.strerror}"
    return MvmnixError(what, hint="docs/reference/privileges.md says what it takes; or run mvm as a plain user")
