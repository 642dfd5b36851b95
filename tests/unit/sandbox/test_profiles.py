"""What each profile makes of the calls that are many in one: by command, option, request or family.

The profiles are those of the code, so that a new one has to have its row here; the commands those of this machine's
kernel headers, and their neighbours.
"""

import fcntl
import re
import socket
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from tests.repository import ROOT
from tests.seccomp import ALLOW, ENOSYS, EPERM, PROFILES, answer, numbers

NUMBERS = numbers()

_FLAGS = {fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL}
_COPIES = {*_FLAGS, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC}
_LOCKS = {fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW}
_PRCTL = {1, 2, 3, 4, 7, 8, 15, 16, 21, 22, 23, 24, 27, 28, 29, 30, 33, 36, 37, 38, 39, 40, 41, 42, 47, 0x53564D41}
_ANY_DESCRIPTOR = {0x5401, 0x5413, 0x541B, 0x5450, 0x5451, 0x5421}
_HELPERS = _ANY_DESCRIPTOR | {
    *(0x40049409, 0x4020940D, 0x80086601, 0xC020660B),
    *(0x802C542A, 0x5402, 0x5403, 0x540F, 0x80045430, 0x40045431),
}
#: Whole types of requests: KVM's device, machines and processors; sockets.
_KVM, _OF_SOCKETS = {0xAE00}, {0x8900}
#: TIOCSTI, TIOCLINUX.
_INTO_A_TERMINAL = {0x5412, 0x541C}
_TAP = {0x800454D2, 0x400454D0, 0x400454D4, 0x400454D8}
_INET = {socket.AF_INET, socket.AF_INET6}
_CONNECTION = {(1, 13), (1, 9), (6, 1), (6, 4), (6, 5), (6, 6)}
#: Every command.
_ALL: Final = None

_PROGRAM = {"prctl": _PRCTL, "prlimit64": {0}, "personality": set(), "keyctl": set(), "socketpair": set()}
_HELPER = {
    **_PROGRAM,
    "fcntl": _COPIES | _LOCKS,
    "ioctl": _HELPERS,
    "setsockopt": _ALL,
    "socket": _INET,
    "socketpair": {socket.AF_UNIX},
    "personality": {0, 0xFFFFFFFF},
}
_HYPERVISOR = {
    **_PROGRAM,
    "fcntl": _COPIES,
    "ioctl": _ANY_DESCRIPTOR | _KVM,
    "setsockopt": set(),
    "socket": set(),
}
_GATEWAY = {
    **_PROGRAM,
    "fcntl": _COPIES,
    "ioctl": _ANY_DESCRIPTOR,
    "setsockopt": _CONNECTION,
    "socket": set(),
    "socketpair": {socket.AF_UNIX},
}
_DIALER = {**_GATEWAY, "setsockopt": _CONNECTION | {(0, 11), (41, 25)}, "socket": _INET, "socketpair": set()}
_SERVING = {"fcntl": _FLAGS, "prctl": set(), "prlimit64": set(), "socketpair": set()}
_FILE_SERVER = {**_HYPERVISOR, "ioctl": _ANY_DESCRIPTOR}
#: By profile and call, what passes of the argument that chooses.
EXPECTED: Final[Mapping[str, Mapping[str, object]]] = {
    "CONTAINER": {
        **_HELPER,
        "fcntl": _COPIES | _LOCKS | {36, 37, 38} | {1031, 1032, 1033, 1034},
        "ioctl": _HELPERS | _OF_SOCKETS,
        "socket": {*_INET, socket.AF_UNIX, socket.AF_NETLINK},
        "keyctl": {1},
    },
    "FILE_SERVER": _FILE_SERVER,
    "FILE_SERVER_COUNTED": _FILE_SERVER,
    "HELPERS": _HELPER,
    "HELPERS_CONNECTED": {**_HELPER, "setsockopt": set(), "socket": set(), "socketpair": set()},
    "HELPERS_WITH_GATEWAY": {**_HELPER, "socket": {*_INET, socket.AF_UNIX}},
    "HYPERVISOR": _HYPERVISOR,
    "HYPERVISOR_WITH_NETWORK": {**_HYPERVISOR, "ioctl": _ANY_DESCRIPTOR | _KVM | _TAP},
    "HYPERVISOR_WITH_SHARES": {**_HYPERVISOR, "socketpair": {socket.AF_UNIX}},
    "HYPERVISOR_WITH_SHARES_AND_NETWORK": {
        **_HYPERVISOR,
        "ioctl": _ANY_DESCRIPTOR | _KVM | _TAP,
        "socketpair": {socket.AF_UNIX},
    },
    "GATEWAY": _GATEWAY,
    "GATEWAY_SERVING": {**_GATEWAY, **_SERVING},
    "DIALER": _DIALER,
    "DIALER_SERVING": {**_DIALER, **_SERVING},
}
#: Which argument chooses.
ARGUMENT: Final = {
    "fcntl": 1,
    "ioctl": 1,
    "prctl": 0,
    "prlimit64": 0,
    "socket": 0,
    "socketpair": 0,
    "personality": 0,
    "keyctl": 0,
}
#: What passes with each, where it does.
_AFTER: Final = {"socket": (socket.SOCK_STREAM, 0)}
#: Calls that are many in one, or take from others, and that no profile has.
_NOBODYS: Final = """
    bpf perf_event_open userfaultfd ptrace quotactl quotactl_fd io_uring_setup io_uring_enter io_uring_register kcmp
    modify_ldt reboot fanotify_init fanotify_mark add_key request_key syslog mbind set_mempolicy vmsplice
    process_madvise pidfd_getfd clone3 setns
"""
#: A container has those of its own IPC namespace.
_QUEUES: Final = "shmget shmctl semget semctl msgget msgctl mq_open"
#: Helpers' and containers', whose processes are theirs alone; no process of a machine's has them.
_HELPERS_OWN: Final = "setpriority sched_setaffinity flock timer_create inotify_init1 mlock tee kill rt_sigqueueinfo"


def passes(name: str, call: str, *arguments: int) -> bool:
    return answer(name, call, *arguments) == ALLOW


def refusal(name: str, call: str, value: int) -> int:
    """What is answered to a value that doesn't pass: it is refused, or unknown to this profile."""
    if call == "ioctl" and value in _INTO_A_TERMINAL:
        return EPERM
    unknown = {"fcntl", "ioctl", "prctl", *(_SERVING if name.endswith("_SERVING") else ())}
    return ENOSYS if call in unknown else EPERM


def test_every_profile_of_the_code_has_a_row() -> None:
    assert EXPECTED.keys() == PROFILES.keys()


def test_no_profile_is_made_elsewhere() -> None:
    makes = re.compile(r"\bProfile\(|\.extended\(|\.without\(")
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "mvmnix").rglob("*.py")}
    assert {path.parent.name for path, text in texts.items() if makes.search(text)} == {"profiles"}


def around(values: set[int]) -> set[int]:
    """These, and all that differ from one of them in a bit of an `int`."""
    return {value ^ bit for value in values for bit in (0, *(1 << place for place in range(32)))}


#: Directions, sizes and numbers of requests, for each type (ioctl(2)).
_REQUESTS = {
    way << 30 | size << 16 | kind << 8 | number
    for kind in range(256)
    for way, size in ((0, 0), (1, 4), (2, 4), (3, 8))
    for number in (0, 1, 2, 0x12, 0x80, 0xFF)
}
#: By call, the numbers that its headers have, and room for those that later ones have.
COMMANDS: Final = {
    "fcntl": {*range(64), *range(1024, 1100)},
    "prctl": {*range(256), 0x53564D41, 0x59616D61, 0x41555856},
    "prlimit64": {*range(4), 0x7FFFFFFF, 0xFFFFFFFF},
    "socket": {*range(64)},
    "socketpair": {*range(64)},
    "personality": {*range(64), 0x0040000, 0x0400000, 0x4000000, 0xFFFFFFFF},
    "keyctl": {*range(64)},
    "ioctl": {
        *range(0x5400, 0x5500),
        *range(0x8900, 0x8A00),
        *range(0xAE00, 0xAF00),
        *range(0x1200, 0x1300),
        *_REQUESTS,
    },
}
LEVELS: Final = (*range(2), 6, 17, 41, 58, 132, 136, 255, *range(256, 288))
OPTIONS: Final = range(100)
#: Names of values that options take, which are no options.
_VALUES: Final = re.compile("_MASK|_ANY$|_MSS_|MAXKEYLEN|MAX_MTU|_PRIORITY|FLOWINFO|PREFER|_TLV_|PKT_")
_INCLUDE: Final = Path("/usr/include")


@pytest.mark.parametrize(
    ("header", "prefix", "known"),
    [
        ("linux/prctl.h", "PR_(?:SET|GET|CAP|CAPBSET|SCHED|MCE|TASK|FUTEX|PAC|SVE|SME)", COMMANDS["prctl"]),
        ("asm-generic/fcntl.h", "F_(?:GET|SET|DUP)", COMMANDS["fcntl"]),
        ("asm-generic/socket.h", "SO_", {*OPTIONS}),
        ("linux/tcp.h", "TCP_", {*OPTIONS}),
        ("linux/in.h", "(?:IP|MCAST)_", {*OPTIONS}),
        ("linux/in6.h", "IPV6_", {*OPTIONS}),
        ("asm-generic/ioctls.h", "(?:T|F)IO?[A-Z]", COMMANDS["ioctl"]),
    ],
)
def test_the_commands_of_the_headers_are_among_those_that_are_tried(header: str, prefix: str, known: set[int]) -> None:
    text = (_INCLUDE / header).read_text(encoding="utf-8")
    found = re.findall(rf"^#\s*define\s+({prefix}\w*)\s+(0x[0-9A-Fa-f]+|\d+)\b", text, re.MULTILINE)
    assert len(found) > 5
    values = {name: int(number, 0) for name, number in found if not _VALUES.search(name)}
    assert {name for name, value in values.items() if value not in known} == set()


def commands(name: str) -> Iterator[tuple[str, set[int], set[int]]]:
    """By call, what is to pass, and what is tried."""
    for call in ARGUMENT:
        expected = EXPECTED[name][call]
        assert isinstance(expected, set)
        yield call, expected, COMMANDS[call] | around(expected)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_passes_is_the_list_and_nothing_else(name: str) -> None:
    for call, expected, tried in commands(name):
        before, after = (0,) * ARGUMENT[call], _AFTER.get(call, ())
        answers = {value: answer(name, call, *before, value, *after) for value in tried}
        passed = {value for value in tried if answers[value] == ALLOW}
        assert all(answers[value] == refusal(name, call, value) for value in tried - passed), call
        if call == "ioctl":
            passed = {
                value & 0xFF00 if value & 0xFF00 in expected & {*_KVM, *_OF_SOCKETS} else value for value in passed
            }
        assert passed == expected, call


@pytest.mark.parametrize("name", EXPECTED)
def test_socket_options_pass_in_pairs(name: str) -> None:
    expected = EXPECTED[name]["setsockopt"]
    tried = {(level, option) for level in LEVELS for option in OPTIONS}
    if expected is _ALL or expected == set():
        tried = {(1, 7), (1, 25), (0, 19), (6, 31), (1, 9)}
        expected = tried if expected is _ALL else set()
    else:
        assert isinstance(expected, set)
        tried |= {(level ^ 1 << bit, option) for level, option in expected for bit in range(32)}
        tried |= {(level, option ^ 1 << bit) for level, option in expected for bit in range(32)}
    assert {pair for pair in tried if passes(name, "setsockopt", 3, *pair)} == expected


@pytest.mark.parametrize("name", EXPECTED)
def test_sockets_of_a_process_in_the_hosts_network_are_of_tcp_and_udp(name: str) -> None:
    flags = {0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK}
    ours = {(1, 0), (1, 6), (2, 0), (2, 17)}
    tried = set(product({*range(16)}, {*range(64), 132, 136, 255, 256, 262}))
    tried |= {(kind ^ 1 << bit, protocol) for kind, protocol in ours for bit in range(32) if 1 << bit not in flags}
    tried |= {(kind, protocol ^ 1 << bit) for kind, protocol in ours for bit in range(32)}
    is_dialer, families = name.startswith("DIALER"), EXPECTED[name]["socket"]
    assert isinstance(families, set)
    for family, flag in product(families, flags):
        passed = {(kind, protocol) for kind, protocol in tried if passes(name, "socket", family, kind | flag, protocol)}
        assert passed == (ours if is_dialer else tried), family


@pytest.mark.parametrize("name", EXPECTED)
def test_the_upper_half_of_an_argument_changes_nothing(name: str) -> None:
    for call, expected, _ in commands(name):
        before, after = (0,) * ARGUMENT[call], _AFTER.get(call, ())
        for value in (*sorted(expected)[:3], 0x1234, *_INTO_A_TERMINAL):
            found = ALLOW if value in expected else refusal(name, call, value)
            assert answer(name, call, *before, 1 << 32 | value, *after) == found, call


@pytest.mark.parametrize("name", EXPECTED)
def test_other_calls_that_are_many_in_one_are_nobodys(name: str) -> None:
    nobodys = _NOBODYS.split() if name == "CONTAINER" else f"{_NOBODYS} {_QUEUES}".split()
    if not name.startswith(("HELPERS", "CONTAINER")):
        nobodys += _HELPERS_OWN.split()
    for argument in (0, 1, 2, 0x7FFFFFFF):
        assert {call for call in nobodys if passes(name, call, argument, argument, argument)} == set()


@pytest.mark.parametrize("name", ["GATEWAY_SERVING", "DIALER_SERVING"])
def test_who_serves_takes_nothing_that_is_counted_by_user(name: str) -> None:
    """Neither a descriptor's copy nor an instance of anything; a dialer sends the descriptors that it made."""
    taken = """
        execve execveat fork vfork dup dup2 dup3 socketpair epoll_create epoll_create1 eventfd eventfd2 timerfd_create
        signalfd signalfd4 memfd_create inotify_init inotify_init1 pipe seccomp prctl prlimit64 mlock mlockall
        setrlimit sendmmsg
    """
    extra = {"sendmsg", "clone"} if name == "GATEWAY_SERVING" else {"pipe2"}
    less = set() if name == "GATEWAY_SERVING" else {"sendmmsg"}
    for flags in (0, 0x3D0F00, 17):
        assert {call for call in ({*taken.split()} | extra) - less if passes(name, call, flags)} == set()


@pytest.mark.parametrize("name", ["GATEWAY", "DIALER"])
def test_what_serves_has_less_than_what_starts(name: str) -> None:
    for call in NUMBERS:
        for argument in (0, 1, 2, 0x10000):
            if passes(f"{name}_SERVING", call, argument, argument, argument):
                assert passes(name, call, argument, argument, argument), call
