"""What every sandboxed program needs to run, and what all of them are refused unless their own list has it; pure."""

import fcntl
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from mvmnix.sandbox.profiles.profile import INT, Argument, among, names, only

#: How a program starts and ends: the loader, C libraries, threads that wait for each other. setpriv adds Landlock's
#: rules and executes what comes after it. Some versions of bubblewrap filter the first process of the namespace, too,
#: which waits for the others.
PROCESS: Final = names(
    "execve arch_prctl set_tid_address set_robust_list get_robust_list rseq futex restart_syscall",
    "exit exit_group wait4 waitid landlock_create_ruleset landlock_add_rule landlock_restrict_self",
)
#: A program may take more rights from itself: setpriv does, QEMU and virtiofsd install filters of their own.
LESS: Final = names("seccomp capset")
#: Memory of its own.
MEMORY: Final = names("brk mmap munmap mprotect mremap madvise msync mincore membarrier memfd_create")
#: What it may ask about itself and the time; clocks that are read without the vDSO, too.
QUESTIONS: Final = names(
    "getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid",
    "capget uname sysinfo getrusage getrlimit getcpu getrandom times umask getpriority",
    "clock_gettime clock_getres gettimeofday time sched_getaffinity sched_getattr sched_getparam",
    "sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval",
)
#: Waiting: for time, for descriptors, for a turn.
WAITING: Final = names(
    "nanosleep clock_nanosleep sched_yield poll ppoll select pselect6 eventfd eventfd2",
    "epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2",
    "timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4",
)
#: Signals of its own process; another's is reached by kill(2), which is no part of this.
SIGNALS: Final = names(
    "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack tgkill tkill",
)
#: Descriptors that it has.
DESCRIPTORS: Final = names(
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek close close_range",
    "dup dup2 dup3 pipe pipe2 fstat fstatfs fsync fdatasync sync_file_range fadvise64 readahead",
)
#: Files by their names: which of them it finds is up to its root and to Landlock.
NAMES: Final = names(
    "open openat creat access faccessat faccessat2 stat lstat newfstatat statx statfs",
    "readlink readlinkat getdents getdents64 getcwd chdir fchdir",
)
#: What comes over a socket that it was given.
SOCKET: Final = names(
    "sendmsg recvmsg sendto recvfrom getsockopt getsockname getpeername shutdown",
)
#: What every list begins with, besides `OWN`.
ORDINARY: Final = PROCESS | LESS | MEMORY | QUESTIONS | WAITING | SIGNALS | DESCRIPTORS | NAMES | SOCKET

_OTHER_PROCESSES: Final = """
    ptrace process_vm_readv process_vm_writev process_madvise kcmp process_mrelease pidfd_open pidfd_getfd
    pidfd_send_signal kill rt_sigqueueinfo rt_tgsigqueueinfo
"""
_NEW_PROCESSES: Final = """
    fork vfork execveat
"""
_SOCKETS: Final = """
    socket socketpair connect bind listen accept accept4 setsockopt
"""
_NAMESPACES: Final = """
    unshare setns mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    statmount listmount swapon swapoff quotactl quotactl_fd
"""
_IDENTITY: Final = """
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
"""
#: What changes names, owners, modes and attributes.
_FILES: Final = """
    mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown link linkat symlink symlinkat setxattr
    lsetxattr fsetxattr mkdir mkdirat removexattr lremovexattr fremovexattr rename renameat renameat2 unlink unlinkat
    rmdir truncate flock name_to_handle_at open_by_handle_at utime utimes utimensat futimesat inotify_init
    inotify_init1 fanotify_init fanotify_mark
"""
_KERNEL: Final = """
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register init_module finit_module
    delete_module create_module kexec_load kexec_file_load reboot syslog acct iopl ioperm modify_ldt personality
    uselib vhangup keyctl add_key request_key lookup_dcookie nfsservctl sethostname setdomainname settimeofday
    clock_settime adjtimex clock_adjtime lsm_set_self_attr
"""
_QUEUES: Final = """
    shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl semtimedop mq_open mq_unlink mq_timedsend
    mq_timedreceive mq_notify
"""
_PRIORITIES: Final = """
    setpriority sched_setscheduler sched_setparam sched_setattr ioprio_set mbind set_mempolicy migrate_pages move_pages
"""
#: Refused with EPERM unless a list has it. It decides nothing but the error: what no list has fails anyway.
REFUSED: Final = names(
    *(_OTHER_PROCESSES, _NEW_PROCESSES, _SOCKETS, _NAMESPACES, _IDENTITY, _FILES, _KERNEL, _QUEUES, _PRIORITIES)
)

#: Of clone(2), the bits for namespaces of their own, and that for a thread. clone3, whose flags lie in memory where no
#: filter looks, is on no list: C libraries fall back to clone.
_CLONE_NAMESPACES: Final = 0x7E020000
_CLONE_THREAD: Final = 0x10000
THREADS: Final[Mapping[str, Argument]] = {
    "clone": only(0, _CLONE_NAMESPACES | _CLONE_THREAD, (_CLONE_THREAD,)),
}
PROCESSES: Final[Mapping[str, Argument]] = {"clone": only(0, _CLONE_NAMESPACES, (0,))}

#: No set-user-ID and no set-group-ID bit in the mode of what is made or changed. openat2, whose mode lies in memory,
#: is on no list where this is: who has no openat2 takes openat.
SET_ID: Final = stat.S_ISUID | stat.S_ISGID
KIND: Final = 0o170000  # S_IFMT, inode(7)
NO_SET_ID: Final[Mapping[str, Argument]] = {
    **{name: only(2, SET_ID, (0,)) for name in ("open", "fchmodat", "fchmodat2")},
    **{name: only(1, SET_ID, (0,)) for name in ("creat", "fchmod")},
    "openat": only(3, SET_ID, (0,)),
}
#: Regular files alone: no device, no FIFO, no socket.
REGULAR_FILES: Final[Mapping[str, Argument]] = {"mknodat": only(2, KIND | SET_ID, (0, stat.S_IFREG))}

#: fallocate(2) without FALLOC_FL_KEEP_SIZE, which takes room behind a file's end where RLIMIT_FSIZE isn't asked (ext4,
#: XFS), and in other ways that lengthen a file. So what is let through is one of these modes as a whole: room within
#: the limit, for all; a hole (PUNCH_HOLE | KEEP_SIZE) and zeroes (ZERO_RANGE) for who has a disk.
_ROOM, _HOLE, _ZEROES = 0, 0x03, 0x10
ROOM: Final[Mapping[str, Argument]] = {"fallocate": only(1, INT, (_ROOM,))}
ROOM_ON_A_DISK: Final[Mapping[str, Argument]] = {"fallocate": only(1, INT, (_ROOM, _HOLE, _ZEROES))}

#: Options of prctl(2) (linux/prctl.h): signals at a parent's end, dumps, names, capabilities, filters, timer slack,
#: what to do about broken memory, children of children, huge pages, names of memory. None changes how the processor
#: speculates, with whom it shares a core, who may trace, or the kernel's image of the process (PR_SET_MM).
_OPTIONS: Final = (
    *(1, 2, 3, 4, 7, 8, 15, 16, 21, 22, 23, 24, 27, 28, 29, 30, 33, 36, 37, 38, 39, 40, 41, 42, 47, 0x53564D41),
)
#: Its own limits, and none of the first process's, which has the same uid; what it is, by prctl(2).
OWN: Final[Mapping[str, Argument]] = {"prlimit64": only(0, INT, [0]), "prctl": among(0, _OPTIONS)}

#: fcntl(2): copies of a descriptor, and its flags. A lease of a file, an owner and a signal, a directory's changes
#: (F_NOTIFY) and locks would reach those who use the same file outside; a pipe's size is counted by user.
_COMMANDS: Final = (
    *(fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL),
)
#: Locks of parts of a file, by process (POSIX) and by descriptor.
LOCKS: Final = (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW)
OFD_LOCKS: Final = (fcntl.F_OFD_GETLK, fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW)


def commands(*more: int) -> Mapping[str, Argument]:
    """fcntl, with commands that every program needs, and these."""
    return {"fcntl": among(1, (*_COMMANDS, *more))}


#: Put characters into a terminal's input (ioctl_tty(2)).
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
#: Asked of any descriptor: whether it is a terminal and of which size, how much there is to read; closing it at exec,
#: not waiting for it (TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX, FIONBIO).
_ANY_DESCRIPTOR: Final = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451, 0x5421)


def requests(*numbers: int, types: Sequence[int] = ()) -> Mapping[str, Argument]:
    """ioctl, with requests that any descriptor may get, these, and those of a device by their type byte (ioctl(2))."""
    listed = tuple((INT, number) for number in (*_ANY_DESCRIPTOR, *numbers))
    by_type = tuple((0xFF00, byte << 8) for byte in types)
    return {"ioctl": Argument(1, (*by_type, *listed), ((INT, _TIOCSTI), (INT, _TIOCLINUX)))}
