"""The filters that libseccomp writes from the profiles, run by an interpreter of their few instructions."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.sandbox import seccomp
from mvmnix.sandbox.profiles.helpers import HELPERS
from mvmnix.sandbox.profiles.profile import Argument, Profile, only
from mvmnix.sandbox.trusted_executables import Candidates
from tests.seccomp import ALLOW, ENOSYS, EPERM, I386, KILL, PROFILES, answer, filter_of, numbers, verdict

NUMBERS = numbers()
each = pytest.mark.parametrize("name", PROFILES)
#: Those of a machine's own processes but its network, and of helpers.
of_machines = pytest.mark.parametrize("name", [it for it in PROFILES if it.startswith(("HYPER", "FILE", "HELP"))])
#: Calls that kernels got since: setxattrat, getxattrat, listxattrat, removexattrat, open_tree_attr, file_getattr,
#: file_setattr, and numbers that none has yet.
LATER = (463, 464, 465, 466, 467, 468, 469, 600, 0x3FFFFFFF)


def answers(name: str, calls: Iterable[str], *arguments: int) -> set[int]:
    return {answer(name, call, *arguments) for call in calls}


@each
def test_a_name_is_one_of_the_kernels(name: str) -> None:
    """A call that is misspelt would be none, and its program would fail on some day."""
    profile = PROFILES[name]
    later = {"cachestat", "fchmodat2"}  # what the header of an older Debian lacks
    assert profile.allowed | profile.conditions.keys() | profile.refused <= NUMBERS.keys() | later


@each
def test_what_a_profile_has_passes_what_it_refuses_fails_and_the_rest_is_unknown(name: str) -> None:
    profile = PROFILES[name]
    rest = NUMBERS.keys() - profile.allowed - profile.denied - profile.conditions.keys()
    assert answers(name, profile.allowed & NUMBERS.keys()) == {ALLOW}
    assert answers(name, profile.denied & NUMBERS.keys()) == {EPERM}
    assert answers(name, rest) == {ENOSYS}
    assert {verdict(filter_of(name), number) for number in LATER} == {ENOSYS}


@each
def test_other_names_for_a_call_end_the_process(name: str) -> None:
    for number in (NUMBERS["ptrace"], NUMBERS["read"], 0x40000000, 0x40000000 | NUMBERS["read"], 0xFFFFFFFE):
        assert verdict(filter_of(name), number, architecture=I386) == KILL
    for number in (0x40000000, 0x40000000 | NUMBERS["read"], 0x40000000 | NUMBERS["ptrace"], 0xFFFFFFFE):
        assert verdict(filter_of(name), number) == KILL


@of_machines
def test_no_namespace(name: str) -> None:
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(name, "clone", bit | 17) == answer(name, "clone", bit | 0x3D0F00) == EPERM, hex(bit)


@of_machines
def test_only_a_helper_has_children(name: str) -> None:
    assert answer(name, "clone", 0x3D0F00) == ALLOW  # as pthread_create(3) calls it
    passes = ALLOW if name.startswith("HELPERS") else EPERM
    assert answer(name, "clone", 0x01200011) == passes  # as fork(3) does
    assert answers(name, ("fork", "vfork", "execveat", "kill")) == {passes}
    assert answer(name, "clone3") == ENOSYS


@of_machines
def test_nobody_gets_these(name: str) -> None:
    calls = """
        ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp mount umount2 pivot_root chroot setns fsopen
        open_tree bpf perf_event_open userfaultfd io_uring_setup keyctl add_key request_key init_module finit_module
        kexec_load kexec_file_load reboot syslog acct iopl ioperm open_by_handle_at quotactl fanotify_init shmget msgget
        mq_open swapon clock_settime settimeofday sched_setscheduler
    """
    assert answers(name, calls.split()) == {EPERM}


#: open, creat, openat, fchmod, fchmodat, fchmodat2: which argument is a mode.
MODES = {"open": 2, "creat": 1, "openat": 3, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}


@pytest.mark.parametrize("name", [name for name in PROFILES if name.startswith(("FILE", "HELPERS"))])
def test_no_set_id_bit_is_planted(name: str) -> None:
    for call, argument in MODES.items():
        before = (0,) * argument
        assert answer(name, call, *before, 0o100755) == answer(name, call, *before, 0o1777) == ALLOW
        assert {answer(name, call, *before, mode) for mode in (0o4755, 0o2755, 0o6755, 0o104755)} == {EPERM}
    assert answer(name, "openat2") == ENOSYS, "its mode lies in memory, where no filter sees it"
    assert answer(name, "mknodat", 0, 0, 0o100644) == answer(name, "mknodat", 0, 0, 0o644) == ALLOW
    for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFLNK, stat.S_IFDIR):
        assert answer(name, "mknodat", 0, 0, kind | 0o644) == EPERM
    assert answer(name, "mknodat", 0, 0, 0o104755) == EPERM


def test_a_connected_socket_stays_connected_to_its_peer() -> None:
    name = "HELPERS_CONNECTED"
    calls = ("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendmmsg")
    assert answers(name, calls) <= {EPERM, ENOSYS}
    assert answers(name, calls, socket.AF_INET) | answers(name, calls, socket.AF_UNIX) <= {EPERM, ENOSYS}
    for call, argument in (("sendto", 3), ("sendmsg", 2)):
        before = (0,) * argument
        assert answer(name, call, *before, socket.MSG_NOSIGNAL) == ALLOW
        assert answer(name, call, *before, socket.MSG_FASTOPEN) == EPERM
        assert answer(name, call, *before, socket.MSG_FASTOPEN | socket.MSG_NOSIGNAL) == EPERM
    assert answers(name, ("recvmsg", "recvfrom", "shutdown", "getsockopt")) == {ALLOW}


def test_a_containers_runtime_makes_namespaces_and_mounts_and_no_device() -> None:
    more = {call for call in NUMBERS if answer("CONTAINER", call) == ALLOW != answer("HELPERS_WITH_GATEWAY", call)}
    expected = """
        mount umount2 pivot_root unshare sethostname fsopen fsconfig fsmount move_mount open_tree mount_setattr openat2
        shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semctl semtimedop
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
        io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy
        sched_setscheduler sched_setparam sched_setattr ioprio_get ioprio_set tee
    """
    assert more == set(expected.split())
    assert answer("CONTAINER", "clone", 0x7E020011) == ALLOW
    assert answer("CONTAINER", "clone3") == ENOSYS
    for call, before in (("mknod", (0,)), ("mknodat", (0, 0))):
        kinds = {kind for kind in range(0, 0o200000, 0o10000) if answer("CONTAINER", call, *before, kind) == ALLOW}
        assert kinds == {0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK}


def test_what_a_server_of_files_gets_more_than_a_hypervisor_is_this() -> None:
    """Files below its directory and room for them, extended attributes to read, a working directory for each thread."""
    more = {
        call
        for call in NUMBERS
        if answer("FILE_SERVER", call, 0x200, 0x200) == ALLOW != answer("HYPERVISOR", call, 0x200, 0x200)
    }
    expected = """
        accept4 fchmod fchmodat fchmodat2 fchown fchownat linkat symlinkat mkdirat mknodat renameat renameat2 unlinkat
        truncate utimensat unshare copy_file_range sendfile syncfs getxattr lgetxattr fgetxattr listxattr
        llistxattr flistxattr fallocate
    """
    assert more == set(expected.split())


def test_a_server_of_files_has_directories_of_its_own_and_no_namespace() -> None:
    clone_fs, new_user, new_mount = 0x200, 0x10000000, 0x20000
    assert answer("FILE_SERVER", "unshare", clone_fs) == ALLOW
    for flags in (0, new_user, new_mount, clone_fs | new_user, clone_fs | 1 << 31):
        assert answer("FILE_SERVER", "unshare", flags) == EPERM


@pytest.mark.parametrize(
    ("name", "more", "call"),
    [
        ("HYPERVISOR", "HYPERVISOR_WITH_SHARES", "socketpair"),
        ("HYPERVISOR", "HYPERVISOR_WITH_NETWORK", "ioctl"),
        ("HYPERVISOR_WITH_SHARES", "HYPERVISOR_WITH_SHARES_AND_NETWORK", "ioctl"),
        ("FILE_SERVER", "FILE_SERVER_COUNTED", "fallocate"),
    ],
)
def test_profiles_that_differ_in_one_call(name: str, more: str, call: str) -> None:
    for argument in (1, 0x200):
        answers = [
            {each: answer(it, each, argument, argument) for each in NUMBERS if each != call} for it in (name, more)
        ]
        assert answers[0] == answers[1]


def test_no_room_behind_a_files_end_is_taken() -> None:
    """With FALLOC_FL_KEEP_SIZE (1) ext4 and XFS don't look at RLIMIT_FSIZE, nor do they for INSERT_RANGE (0x20)."""
    modes = {name: {mode for mode in range(256) if answer(name, "fallocate", 3, mode) == ALLOW} for name in PROFILES}
    assert modes["HELPERS"] == {0}
    assert modes["HYPERVISOR"] == modes["HYPERVISOR_WITH_SHARES"] == {0, 0x03, 0x10}, "a hole (0x02) keeps the size"
    assert answer("HELPERS", "fallocate", 3, 1) == answer("HYPERVISOR", "fallocate", 3, 0x11) == EPERM
    assert answer("HELPERS", "fallocate", 3, 1 << 31) == EPERM
    assert answer("FILE_SERVER_COUNTED", "fallocate") == ENOSYS, "where bytes are counted, room is taken by writing"


def test_a_condition_covers_every_value() -> None:
    for mask, values in ((0b1011, (0b0001,)), (0b111, (0, 0b101)), (0b110, ()), (0b101, (0, 1, 4, 5))):
        condition = only(0, mask, values)
        for value in range(16):
            passes = any(value & seen == wanted for seen, wanted in condition.allowed)
            fails = any(value & seen == wanted for seen, wanted in condition.refused)
            assert (passes, fails) == (value & mask in values, value & mask not in values), (mask, values, value)


def test_a_call_has_one_rule() -> None:
    condition = {"read": Argument(0, (), ())}
    with pytest.raises(ValueError, match="read"):
        Profile(frozenset({"read"}), frozenset(), condition)
    assert Profile(frozenset({"read"}), frozenset()).extended(condition).allowed == frozenset()


def test_it_is_made_once_for_each_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [seccomp.program(profile) for profile in PROFILES.values()]
    monkeypatch.setattr(seccomp, "_exported", None)
    assert [seccomp.program(profile) for profile in PROFILES.values()] == programs
    assert len(set(programs)) == len(PROFILES)


def test_a_name_that_libseccomp_does_not_know_is_left_out() -> None:
    known = Profile(frozenset({"read"}), frozenset({"ptrace"}))
    more = Profile(
        known.allowed | {"not_yet"}, known.refused | {"nor_this"}, {"neither": Argument(0, ((1, 1),), ((1, 0),))}
    )
    assert seccomp.program(more) == seccomp.program(known)


@each
def test_the_kernel_takes_it(name: str) -> None:
    assert len(filter_of(name)) % 8 == 0
    assert len(filter_of(name)) // 8 <= 4096  # BPF_MAXINSNS
    script = (
        "import ctypes, sys; program = sys.stdin.buffer.read(); c = ctypes.CDLL(None)\n"
        "class F(ctypes.Structure): _fields_ = (('n', ctypes.c_ushort), ('p', ctypes.c_char_p))\n"
        "assert c.prctl(38, 1, 0, 0, 0) == 0\n"
        "assert c.prctl(22, 2, ctypes.byref(F(len(program) // 8, program))) == 0\n"
        "sys.exit(c.syscall(463, 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], input=filter_of(name), check=False)
    assert done.returncode == 255, "a call that nobody knows, made under the filter, fails and ends nothing"


def test_the_library_is_never_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is loaded from its fixed place, checked as any program of the host is, and without starting a program."""
    before = seccomp.program(HELPERS)
    other = tmp_path / "libseccomp.so.2"
    other.write_bytes(b"")
    other.chmod(0o666)
    seccomp._library.cache_clear()
    seccomp.program.cache_clear()
    monkeypatch.setattr(seccomp, "LIBRARY", Candidates("libseccomp", (str(other),), "apt-get install libseccomp2"))
    with pytest.raises(RefusedError) as refused:
        seccomp.program(HELPERS)
    assert [reason.code for reason in refused.value.reasons] == [ReasonCode.STATE_PERMISSIONS]
    other.unlink()
    with pytest.raises(MvmnixError, match="apt-get install libseccomp2"):
        seccomp.program(HELPERS)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libseccomp.so.2").write_bytes(b"no library")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))  # as the hermetic package has it
    with pytest.raises(MvmnixError, match="can't be loaded"):
        seccomp.program(HELPERS)
    monkeypatch.undo()
    seccomp._library.cache_clear()
    seccomp.program.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(os, "posix_spawn", None)
    assert seccomp.program(HELPERS) == before
