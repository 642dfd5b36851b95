"""The only writer of a system call filter: what no hypervisor of ours needs, as a seccomp program; pure.

QEMU installs a filter of its own (`-sandbox`), once it runs. This one is there before its first instruction, and so
for whatever else would be started in its place. A program is an array of `struct sock_filter` (linux/filter.h), as
seccomp(2) and `bwrap --seccomp` take it; numbers are x86_64's (arch/x86/entry/syscalls/syscall_64.tbl).
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Final

_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _MASK, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
#: Offsets in `struct seccomp_data`; of 64-bit arguments the low half, which is what the kernel looks at here.
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ARGUMENT: Final = 8
_WHOLE: Final = 0xFFFFFFFF
_X86_64: Final = 0xC000003E
#: Numbers from here on are those of the x32 ABI, which would be a second name for every call.
_X32: Final = 0x40000000
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_REFUSED: Final = _ERROR | errno.EPERM
_CLONE, _CLONE3, _IOCTL = 56, 435, 16
_CLONE_THREAD: Final = 0x10000
#: Put characters into a terminal's input (ioctl_tty(2)).
_TERMINAL: Final = (0x5412, 0x541C)

_OTHER_PROCESSES: Final = """
    ptrace 101, process_vm_readv 310, process_vm_writev 311, process_madvise 440, kcmp 312, process_mrelease 448,
    pidfd_open 434, pidfd_getfd 438, pidfd_send_signal 424, kill 62, rt_sigqueueinfo 129
"""
#: Without execve: what enters the jail is executed after the filter is there. Landlock says what may be.
_NEW_PROCESSES: Final = """
    fork 57, vfork 58, execveat 322
"""
_SOCKETS: Final = """
    socket 41, socketpair 53, connect 42, bind 49, listen 50, accept 43, accept4 288
"""
_NAMESPACES: Final = """
    unshare 272, setns 308, mount 165, umount2 166, pivot_root 155, chroot 161, open_tree 428, move_mount 429,
    fsopen 430, fsconfig 431, fsmount 432, fspick 433, mount_setattr 442, statmount 457, listmount 458,
    swapon 167, swapoff 168, quotactl 179, quotactl_fd 443
"""
_IDENTITY: Final = """
    setuid 105, setgid 106, setreuid 113, setregid 114, setresuid 117, setresgid 119, setfsuid 122, setfsgid 123,
    setgroups 116
"""
#: What changes names, owners and modes: a descriptor that is read-only stays so.
_FILES: Final = """
    mknod 133, mknodat 259, chmod 90, fchmod 91, fchmodat 268, fchmodat2 452, chown 92, fchown 93, lchown 94,
    fchownat 260, link 86, linkat 265, symlink 88, setxattr 188, lsetxattr 189, fsetxattr 190, symlinkat 266,
    mkdir 83, mkdirat 258, removexattr 197, lremovexattr 198, fremovexattr 199, rename 82, renameat 264,
    renameat2 316, unlink 87, unlinkat 263, rmdir 84, truncate 76, flock 73, name_to_handle_at 303,
    open_by_handle_at 304, utime 132, utimes 235, utimensat 280, futimesat 261, inotify_init 253,
    inotify_init1 294, fanotify_init 300, fanotify_mark 301
"""
_KERNEL: Final = """
    bpf 321, perf_event_open 298, userfaultfd 323, io_uring_setup 425, io_uring_enter 426, io_uring_register 427,
    init_module 175, finit_module 313, delete_module 176, create_module 174, kexec_load 246, kexec_file_load 320,
    reboot 169, syslog 103, acct 163, iopl 172, ioperm 173, modify_ldt 154, personality 135, uselib 134,
    vhangup 153, keyctl 250, add_key 248, request_key 249, lookup_dcookie 212, nfsservctl 180, sethostname 170,
    setdomainname 171, settimeofday 164, clock_settime 227, adjtimex 159, clock_adjtime 305,
    lsm_set_self_attr 460
"""
_QUEUES: Final = """
    shmget 29, shmat 30, shmctl 31, msgget 68, msgsnd 69, msgrcv 70, msgctl 71, semget 64, semop 65, semctl 66,
    semtimedop 220, mq_open 240, mq_unlink 241, mq_timedsend 242, mq_timedreceive 243, mq_notify 244
"""
_PRIORITIES: Final = """
    setpriority 141, sched_setscheduler 144, sched_setparam 142, sched_setattr 314, ioprio_set 251, mbind 237,
    set_mempolicy 238, migrate_pages 256, move_pages 279
"""
#: By name, each with its number; all of them end with EPERM.
DENIED: Final = {
    name: int(number)
    for table in (
        _OTHER_PROCESSES,
        _NEW_PROCESSES,
        _SOCKETS,
        _NAMESPACES,
        _IDENTITY,
        _FILES,
        _KERNEL,
        _QUEUES,
        _PRIORITIES,
    )
    for name, number in (pair.split() for pair in table.split(","))
}


type Steps = tuple[bytes, ...]

_NO_FORMS: Final[Mapping[int, Steps]] = {}


def without_bits(argument: int, bits: int) -> Steps:
    """Steps of a form: the call is refused when the argument, counted from 0, has one of these bits."""
    return (_load(argument), *_if(_ANY_BIT, bits, (_answer(_REFUSED),)))


def one_of(argument: int, mask: int, values: Iterable[int]) -> Steps:
    """The last steps of a form: the call is refused unless what the mask leaves of the argument is one of these."""
    known = tuple(step for value in values for step in _if(_EQUAL, value, (_answer(_ALLOW),)))
    return (_load(argument), _step(_MASK, mask), *known, _answer(_REFUSED))


def program(
    *, granted: Collection[str] = (), forms: Mapping[int, Steps] = _NO_FORMS, unknown: Iterable[int] = ()
) -> bytes:
    """The filter, in the order in which the kernel runs it.

    `granted` are names of the list that are not denied after all; `forms` says by a call's number what its arguments
    may be, and `unknown` are numbers of calls that this kernel doesn't seem to have.

    1. A call by another architecture's numbers ends the process; one by x32's is unknown.
    2. What is on the list above fails with EPERM, and so do the terminal's two requests.
    3. A new thread is let through, a new process fails with EPERM. clone3, whose flags a filter can't read, is
       unknown, at which libraries fall back to clone.
    """
    refused, missing = _answer(_REFUSED), _answer(_ERROR | errno.ENOSYS)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        *_if(_EQUAL, _X86_64, (), (_answer(_KILL),)),
        _step(_LOAD, _NUMBER),
        *_if(_AT_LEAST, _X32, (missing,)),
    ]
    for number in sorted(number for name, number in DENIED.items() if name not in granted):
        steps += _if(_EQUAL, number, (refused,))
    for number in (_CLONE3, *unknown):
        steps += _if(_EQUAL, number, (missing,))
    for number, form in forms.items():
        steps += _if(_EQUAL, number, (*form, _answer(_ALLOW)))
    thread = (_step(_LOAD, _FIRST), *_if(_ANY_BIT, _CLONE_THREAD, (_answer(_ALLOW),), (refused,)))
    steps += _if(_EQUAL, _CLONE, thread)
    requests = tuple(step for request in _TERMINAL for step in _if(_EQUAL, request, (refused,)))
    steps += _if(_EQUAL, _IOCTL, (_step(_LOAD, _SECOND), *requests))
    return b"".join((*steps, _answer(_ALLOW)))


def program_with_pairs() -> bytes:
    """The filter for a hypervisor with a server of files beside it (vhost-user): it makes socket pairs to give away.

    A pair has no name, and connects nobody but those that got its ends.
    """
    return program(granted=("socketpair",), forms={DENIED["socketpair"]: one_of(0, _WHOLE, (socket.AF_UNIX,))})


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, then, otherwise, value)


def _load(argument: int) -> bytes:
    return _step(_LOAD, _FIRST + _ARGUMENT * argument)


def _answer(action: int) -> bytes:
    return _step(_RETURN, action)


def _if(test: int, value: int, then: tuple[bytes, ...], otherwise: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
    """Do the one or the other, and go on behind both; where there are two, the first ends the program."""
    return (_step(test, value, 0 if then else len(otherwise), len(then)), *then, *otherwise)
