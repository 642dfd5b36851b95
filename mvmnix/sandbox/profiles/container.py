"""What crun, what unpacks its image, and the command in its container may ask the kernel for; pure.

One filter is around all of them from the start of the jail. A container's command is held to it too, and to what its
own filter denies besides (launch/container/oci_config.py): all of `RUNTIME`.
"""

import fcntl
import socket
import stat
from typing import Final

from mvmnix.sandbox.profiles import common, helpers
from mvmnix.sandbox.profiles.profile import INT, Profile, names, only

#: Namespaces and the root file system of a container. mount(8) makes file systems by the calls that begin with `fs`.
RUNTIME: Final = names(
    "mount umount2 pivot_root unshare sethostname",
    "fsopen fsconfig fsmount move_mount open_tree mount_setattr",
)
#: Names below a directory, and nothing that leads out of it: crun follows no link of the image by another call.
_BELOW: Final = names("openat2")
#: What ordinary programs of an image have and helpers do without, as moby's default profile lets them: System V IPC and
#: message queues of the container's own IPC namespace, Linux AIO, priorities.
_IPC: Final = names(
    "shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semctl semtimedop",
    "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
)
_AIO: Final = names("io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy")
_PRIORITIES: Final = names("sched_setscheduler sched_setparam sched_setattr ioprio_get ioprio_set")
#: Modes with set-ID bits too: an image may have such files, and no process gains privileges by them (no_new_privs).
_FILES: Final = names("tee fallocate chmod fchmod fchmodat fchmodat2")
#: AF_NETLINK tells of the container's own, empty network.
_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_KINDS: Final = (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)
#: KEYCTL_JOIN_SESSION_KEYRING: crun gives each container a new one.
_JOIN: Final = 1
#: Sizes of pipes and seals of memfds, which crun and programs of an image use.
_MEMORY_AND_PIPES: Final = (fcntl.F_SETPIPE_SZ, fcntl.F_GETPIPE_SZ, fcntl.F_ADD_SEALS, fcntl.F_GET_SEALS)
#: The type byte of what is asked of sockets; crun sets the loopback device up (netdevice(7)).
_SOCKETS: Final = 0x89

CONTAINER: Final = Profile(
    allowed=helpers.PROGRAMS | RUNTIME | _BELOW | _IPC | _AIO | _PRIORITIES | _FILES | {"clone"},
    refused=common.REFUSED,
    conditions={
        **common.OWN,
        **common.commands(*common.LOCKS, *common.OFD_LOCKS, *_MEMORY_AND_PIPES),
        **common.requests(*helpers.REQUESTS, types=[_SOCKETS]),
        "mknod": only(1, common.KIND, _KINDS),
        "mknodat": only(2, common.KIND, _KINDS),
        "socket": only(0, INT, _FAMILIES),
        "socketpair": only(0, INT, [socket.AF_UNIX]),
        "personality": only(0, INT, helpers.PERSONALITIES),
        "keyctl": only(0, INT, [_JOIN]),
    },
)
