"""The filter of system calls, run by an interpreter of its few instructions; its numbers against the kernel's."""

import errno

from mvmnix.launch.jail import service_syscalls
from mvmnix.launch.jail.syscalls import DENIED, program, program_with_pairs
from tests.seccomp import ALLOW, I386, KILL, X86_64, numbers, verdict

EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def answer(number: int, *arguments: int, architecture: int = X86_64, of: bytes | None = None) -> int:
    return verdict(program() if of is None else of, number, *arguments, architecture=architecture)


def test_what_is_listed_is_refused_and_the_rest_is_not() -> None:
    assert {answer(number) for number in DENIED.values()} == {EPERM}
    special = {56, 435}  # clone, clone3
    rest = set(range(470)) - set(DENIED.values()) - special
    assert {answer(number) for number in rest} == {ALLOW}


def test_threads_but_no_processes() -> None:
    assert answer(56, 0x3D0F00) == ALLOW  # as pthread_create(3) calls it
    assert answer(56, 17) == EPERM  # as fork(3) does
    assert answer(56, 0x10000000 | 17) == EPERM
    assert answer(435) == ENOSYS


def test_nothing_is_typed_into_a_terminal() -> None:
    assert answer(16, 0, 0x5412) == answer(16, 0, 0x541C) == EPERM
    assert answer(16, 0, 0xAE80) == ALLOW  # KVM_RUN


def test_other_names_for_a_call_are_none() -> None:
    assert answer(DENIED["ptrace"], architecture=I386) == KILL
    assert answer(0x40000000 | DENIED["ptrace"]) == ENOSYS
    assert answer(0x40000000) == ENOSYS


def test_the_kernel_takes_it() -> None:
    assert len(program()) % 8 == 0
    assert len(program()) // 8 <= 4096  # BPF_MAXINSNS


def test_numbers_are_the_kernels() -> None:
    known = numbers()
    assert {name: known[name] for name in DENIED} == DENIED


def test_a_hypervisor_beside_servers_may_make_pairs_and_nothing_else_more() -> None:
    pairs, unix, inet = program_with_pairs(), 1, 2
    assert answer(DENIED["socketpair"], unix, of=pairs) == ALLOW
    assert answer(DENIED["socketpair"], inet, of=pairs) == EPERM
    rest = set(DENIED.values()) - {DENIED["socketpair"]}
    assert {answer(number, unix, of=pairs) for number in rest} == {EPERM}


#: open, creat, openat, fchmod, fchmodat, fchmodat2: which argument is a mode.
MODES = {2: 2, 85: 1, 257: 3, 91: 1, 268: 2, 452: 2}


def serving(number: int, *arguments: int) -> int:
    return answer(number, *arguments, of=service_syscalls.program())


def test_a_server_of_files_plants_no_set_id_bit() -> None:
    for number, argument in MODES.items():
        before = (0,) * argument
        assert serving(number, *before, 0o100755) == serving(number, *before, 0o1777) == ALLOW
        assert {serving(number, *before, mode) for mode in (0o4755, 0o2755, 0o6755, 0o104755)} == {EPERM}
    assert serving(437) == ENOSYS, "openat2, whose mode no filter sees"


def test_a_server_whose_bytes_are_counted_takes_room_by_writing() -> None:
    fallocate, counted = numbers()["fallocate"], service_syscalls.program_counted()
    assert (serving(fallocate), answer(fallocate, of=counted)) == (ALLOW, ENOSYS)
    others = {number: serving(number, 0x200, 0, 0) for number in numbers().values() if number != fallocate}
    assert {number: answer(number, 0x200, 0, 0, of=counted) for number in others} == others


def test_a_server_of_files_makes_files_and_nothing_else_with_mknod() -> None:
    number = DENIED["mknodat"]
    assert serving(number, 0, 0, 0o100644) == serving(number, 0, 0, 0o644) == ALLOW
    assert serving(number, 0, 0, 0o104755) == EPERM
    for kind in (0o010000, 0o020000, 0o060000, 0o140000, 0o120000, 0o040000):
        assert serving(number, 0, 0, kind | 0o644) == EPERM
    assert serving(DENIED["mknod"], 0, 0o100644) == EPERM


def test_a_server_of_files_has_directories_of_its_own_and_no_namespace() -> None:
    assert serving(DENIED["unshare"], 0x200) == ALLOW  # CLONE_FS
    assert serving(DENIED["unshare"], 0x10000200) == serving(DENIED["unshare"], 0x20000) == EPERM


def test_what_a_server_of_files_gets_more_is_this() -> None:
    more = {name for name, number in DENIED.items() if serving(number, 0x200, 0, 0) == ALLOW}
    assert more == service_syscalls.GRANTED
    assert {serving(DENIED[name]) for name in ("ptrace", "socket", "connect", "mount", "setuid", "kill")} == {EPERM}
