"""The filter of system calls that the guest agent puts its commands under: its program, and real calls under it."""

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from mvmnix.launch.agent.frames import Config
from mvmnix.launch.agent.transport import encode
from mvmnix.model import SystemCalls
from tests.integration.agent_house import USER, config, execute, failure, shell, talk
from tests.seccomp import ALLOW, DENIED_BY_DEFAULT, I386, KILL, numbers, verdict

pytestmark = pytest.mark.integration

DEFAULT, STRICT, NAMESPACES = 0, 1, 2
EPERM, ENOSYS, FAMILY = (0x50000 | number for number in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT))
#: What each tier refuses whatever the arguments, beyond what all of them do.
ALL: Final = """
    bpf perf_event_open userfaultfd keyctl add_key request_key kexec_load kexec_file_load init_module finit_module
    delete_module create_module query_module get_kernel_syms syslog reboot swapon swapoff acct quotactl quotactl_fd
    iopl ioperm uselib ustat sysfs _sysctl vhangup nfsservctl lookup_dcookie fanotify_init open_by_handle_at
    settimeofday clock_settime lsm_set_self_attr
"""
USUAL: Final = """
    mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr
    statmount listmount setns sethostname setdomainname process_vm_readv process_vm_writev pidfd_getfd kcmp
"""
ONLY_STRICT: Final = """
    ptrace process_madvise process_mrelease memfd_create memfd_secret modify_ldt name_to_handle_at fanotify_mark
    vmsplice mbind set_mempolicy migrate_pages move_pages sched_setattr remap_file_pages mknod mknodat adjtimex
    clock_adjtime
"""
REFUSED: Final = {
    tier: frozenset(names.split())
    for tier, names in ((DEFAULT, ALL + USUAL), (STRICT, ALL + USUAL + ONLY_STRICT), (NAMESPACES, ALL))
}
UNKNOWN: Final = frozenset({"io_uring_setup", "io_uring_enter", "io_uring_register"})
#: These are looked at more closely below.
BY_ARGUMENT: Final = frozenset({"clone", "clone3", "unshare", "socket", "ioctl", "ptrace", "personality"})
#: Newer than some headers.
NEW: Final = {"open_tree_attr": 467, "lsm_set_self_attr": 460, "statmount": 457, "listmount": 458}
NEW_USER, NEW_TIME, THREAD = 0x10000000, 0x80, 0x3D0F00


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program that tries system calls and says what became of them."""
    program = tmp_path_factory.getbasetemp() / "system_calls"
    source = Path(__file__).with_name("system_calls.c")
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-static", "-O1", "-o", program, source], check=True)
    return program.read_bytes()


@pytest.fixture(scope="session", params=[DEFAULT, STRICT, NAMESPACES], ids=["default", "strict", "namespaces"])
def tier(request: pytest.FixtureRequest) -> int:
    return int(request.param)


type Ask = Callable[..., int]


@pytest.fixture(scope="session")
def ask(agent: Path, tier: int) -> Ask:
    """What the tier's program says to a call by name."""
    program = subprocess.run([agent, "--filter", str(tier)], check=True, capture_output=True).stdout
    known = NEW | numbers()
    return lambda name, *arguments, architecture=0xC000003E: verdict(
        program, name if isinstance(name, int) else known[name], *arguments, architecture=architecture
    )


def test_what_is_listed_is_refused_and_the_rest_is_not(ask: Ask, tier: int) -> None:
    assert {name for name in REFUSED[tier] if ask(name) != EPERM} == set()
    assert {ask(name) for name in UNKNOWN} == {ENOSYS}
    rest = set(NEW | numbers()) - REFUSED[tier] - UNKNOWN - BY_ARGUMENT
    assert {name for name in rest if ask(name) != ALLOW} == set()


def test_namespaces_are_one_tier_s_alone(ask: Ask, tier: int) -> None:
    made = ALLOW if tier == NAMESPACES else EPERM
    assert {ask("clone", 1 << bit | 17) for bit in (17, 25, 26, 27, 28, 29, 30)} == {made}
    assert {ask("unshare", 1 << bit) for bit in (7, 17, 25, 26, 27, 28, 29, 30)} == {made}
    assert ask("clone3") == (ALLOW if tier == NAMESPACES else ENOSYS)
    assert ask("clone", THREAD) == ask("clone", 17) == ask("unshare", 0x200) == ALLOW  # a thread, fork(2), CLONE_FS


def test_only_children_can_be_traced(ask: Ask, tier: int) -> None:
    taken = ALLOW if tier == NAMESPACES else EPERM
    assert ask("ptrace", 16) == ask("ptrace", 0x4206) == taken
    assert ask("ptrace", 0) == (EPERM if tier == STRICT else ALLOW)


def test_sockets_are_of_the_usual_families(ask: Ask, tier: int) -> None:
    usual = {1, 2, 10} if tier == STRICT else {1, 2, 10, 16}
    assert {family for family in range(64) if ask("socket", family) == ALLOW} == usual
    assert {ask("socket", family) for family in set(range(64)) - usual} == {FAMILY}


def test_nothing_is_typed_into_a_terminal(ask: Ask) -> None:
    assert ask("ioctl", 0, 0x5412) == ask("ioctl", 0, 0x541C) == EPERM
    assert ask("ioctl", 0, 0x5401) == ALLOW


def test_a_personality(ask: Ask, tier: int) -> None:
    assert ask("personality", 0xFFFFFFFF) == ask("personality", 0) == ALLOW
    assert ask("personality", 0x40000) == (EPERM if tier == STRICT else ALLOW)


def test_other_names_for_a_call_are_none(ask: Ask) -> None:
    assert ask("read", architecture=I386) == KILL
    assert ask(0x40000000) == ask(0x40000000 | numbers()["bpf"]) == ENOSYS


def tried(output: str) -> dict[str, str]:
    return dict(line.split("=") for line in output.splitlines())


def under(agent: Path, probe: bytes, system_calls: SystemCalls) -> dict[str, str]:
    """What the probe says as a command of the agent."""
    script = "umask 077; f=$(mktemp) && cat >$f && chmod 700 $f && $f; rm -f $f; grep Seccomp: /proc/self/status >&2"
    with talk(agent, replace(config(), system_calls=system_calls)) as (channel, _):
        status, out, err = execute(channel, shell(script), stdin=probe)
    assert (status.exit_code, err.split()) == (0, [b"Seccomp:", b"2"])
    return tried(out.decode())


#: What a filter changes for a process without privileges; all else that the probe tries stays as it was.
DENIED: Final = {
    SystemCalls.DEFAULT: DENIED_BY_DEFAULT,
    SystemCalls.STRICT: DENIED_BY_DEFAULT
    | dict.fromkeys(("traceme", "memfd_create", "personality"), "1")
    | {"netlink": "97"},
    SystemCalls.NAMESPACES: {
        **dict.fromkeys(("keyctl", "add_key", "perf_event_open", "userfaultfd", "ioctl"), "1"),
        **dict.fromkeys(("packet", "alg", "vsock"), "97"),
        "io_uring_setup": "38",
        "32 bits": "signal 31",
    },
}


@pytest.mark.root("the agent is root in its guest")
@pytest.mark.parametrize("system_calls", list(SystemCalls))
def test_real_calls_under_it(agent: Path, probe: bytes, tmp_path: Path, system_calls: SystemCalls) -> None:
    free = tmp_path / "probe"
    free.write_bytes(probe)
    free.chmod(0o755)
    opened = os.open(free, os.O_RDONLY)  # whose directories the other user can't enter
    by_itself = subprocess.run(
        [f"/proc/self/fd/{opened}"],
        pass_fds=[opened],
        user=USER.uid,
        group=USER.gid,
        extra_groups=[],
        capture_output=True,
        check=True,
    )
    os.close(opened)
    before = tried(by_itself.stdout.decode())
    changed = DENIED[system_calls]
    assert {name for name, answer in changed.items() if before[name] == answer} <= {
        "alg"
    }  # a module, where there is one
    assert under(agent, probe, system_calls) == before | changed


def test_a_filter_that_there_is_not(agent: Path) -> None:
    data = bytearray(encode(Config(replace(config(), tasks=7, system_calls=SystemCalls.STRICT))))
    at = data.index(b"\0\0\0\1\0\0\0\7")
    data[at + 3] = 3
    failure(agent, bytes(data))
