"""Opens /dev/net/tun for a network namespace of mvm's own, where that file is root's alone.

A device that is made by such a descriptor is one of the namespace in which it was opened, and who makes it needs the
right to, there (TUNSETIFF, Linux's networking/tuntap). So it is opened by a child in that namespace, and only in one
that mvm's own uid has made: mvm gets no device in any other, nor one that is there already.
"""

import errno
import fcntl
import os
import struct
from typing import Final

from mvmnix.privileges.descriptors import made_by_child

PATH: Final = "/dev/net/tun"
#: ioctl_ns(2): NS_GET_USERNS, NS_GET_OWNER_UID.
_GET_USER_NAMESPACE, _GET_OWNER = 0xB701, 0xB704


def opened_in(namespace: int, maker: int) -> int:
    """It, opened in a network namespace that a process of the uid `maker` made; the caller closes it.

    Raises OSError: EPERM where it is another's, ProcessError.
    """
    if _owner(namespace) != maker:
        raise PermissionError(errno.EPERM, "it is not a network namespace of mvm's", PATH)

    def opening() -> int:
        os.setns(namespace, os.CLONE_NEWNET)
        return os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    with made_by_child(opening, PATH) as (_, tun):
        return tun


def _owner(namespace: int) -> int:
    """The uid that made the user namespace to which a namespace belongs."""
    users = fcntl.ioctl(namespace, _GET_USER_NAMESPACE)
    try:
        (uid,) = struct.unpack("=I", fcntl.ioctl(users, _GET_OWNER, bytes(4)))
    finally:
        os.close(users)
    return int(uid)
