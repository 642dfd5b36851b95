"""What programs that read strangers' bytes may ask the kernel for: git, Nix, pip, apt-helper, fsck.erofs; pure.

One list for all of them, as container engines have one: ordinary programs with processes, files and sockets, and
nothing that names another namespace, another process's memory, a device or a rarely used part of the kernel. It was
held against the default profiles of moby and containers-common, and leaves out of them what these programs do without.
"""

import socket
import stat
from dataclasses import replace
from typing import Final

from mvmnix.sandbox.profiles import common
from mvmnix.sandbox.profiles.profile import INT, Profile, names, only

#: Children, which are waited for and ended: all of them live in the same PID namespace.
_CHILDREN: Final = names("fork vfork execveat kill pidfd_open pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo")
_GROUPS: Final = names("setsid setpgid pause alarm getitimer setitimer setrlimit setpriority")
_TIMERS: Final = names("timer_create timer_settime timer_gettime timer_getoverrun timer_delete")
#: Ids that a program gives up: it has no capability, and so can take only those that it has.
_IDENTITY: Final = names(
    "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups",
)
#: Files and directories, which lie in memory that is gone with the sandbox.
_FILES: Final = names(
    "mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat truncate ftruncate",
    "chown fchown lchown fchownat utime utimes utimensat futimesat flock sync syncfs cachestat",
    "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr",
    "removexattr lremovexattr fremovexattr inotify_init inotify_init1 inotify_add_watch inotify_rm_watch",
)
#: Bytes from one descriptor to another without a detour.
_COPIES: Final = names("copy_file_range sendfile splice")
#: Sockets of its own; where they lead is up to the network namespace.
_SOCKETS: Final = names("connect bind listen accept accept4 sendmmsg recvmmsg setsockopt")
#: Locked memory for keys, protection keys, and what glibc's and Boehm's collectors ask for.
_MEMORY: Final = names(
    "mlock mlock2 munlock mlockall munlockall pkey_alloc pkey_free pkey_mprotect futex_waitv sched_setaffinity",
)
#: The families that a network namespace holds in. What listens by a path in files that a helper was given is outside of
#: it, and connections pass a mount that is read-only; so AF_UNIX is for who has a gateway, and pairs alone for others.
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
#: personality(2): asked, or the ordinary one.
PERSONALITIES: Final = (0, INT)
#: Copies by reference, attributes and extents of a file: FICLONE, FICLONERANGE, FS_IOC_GETFLAGS, FS_IOC_FIEMAP;
#: a terminal of its own for a child, which Nix makes: TCGETS2, TCSETS, TCSETSW, TIOCGPGRP, TIOCGPTN, TIOCSPTLCK.
REQUESTS: Final = (
    *(0x40049409, 0x4020940D, 0x80086601, 0xC020660B),
    *(0x802C542A, 0x5402, 0x5403, 0x540F, 0x80045430, 0x40045431),
)

#: All of these, whatever their arguments are.
PROGRAMS: Final = common.ORDINARY | _CHILDREN | _GROUPS | _TIMERS | _IDENTITY | _FILES | _COPIES | _SOCKETS | _MEMORY

HELPERS: Final = Profile(
    allowed=PROGRAMS.difference(common.NO_SET_ID),
    refused=common.REFUSED,
    conditions={
        **common.PROCESSES,
        **common.OWN,
        **common.commands(*common.LOCKS),
        **common.ROOM,
        **common.NO_SET_ID,
        **common.requests(*REQUESTS),
        "chmod": only(1, common.SET_ID, [0]),
        "mknod": only(1, common.KIND | common.SET_ID, [0, stat.S_IFREG]),
        **common.REGULAR_FILES,
        "socket": only(0, INT, _FAMILIES),
        "socketpair": only(0, INT, [socket.AF_UNIX]),
        "personality": only(0, INT, PERSONALITIES),
    },
)
#: The gateway's socket has a path.
HELPERS_WITH_GATEWAY: Final = HELPERS.extended({"socket": only(0, INT, (socket.AF_UNIX, *_FAMILIES))})
#: Without any call that could lead a connected socket of the host's network elsewhere: connect(2) to AF_UNSPEC parts it
#: from its peer, and the next connect, or MSG_FASTOPEN (tcp(7)), leads wherever that network does.
_FASTOPEN: Final = int(socket.MSG_FASTOPEN)
_PAIRS: Final = names("socket socketpair")
HELPERS_CONNECTED: Final = replace(
    HELPERS,
    allowed=HELPERS.allowed - _SOCKETS,
    conditions={name: one for name, one in HELPERS.conditions.items() if name not in _PAIRS},
).extended({"sendto": only(3, _FASTOPEN, [0]), "sendmsg": only(2, _FASTOPEN, [0])})
