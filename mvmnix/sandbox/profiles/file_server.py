"""What a server of files may ask the kernel for, and what makes an image of a directory: virtiofsd, mkfs.erofs; pure.

Written from virtiofsd's own list (its src/seccomp.rs) and from mkfs.erofs's sources. Neither can plant what is more
than a file: no set-user-ID or set-group-ID bit, no device, no FIFO, no socket.
"""

from typing import Final

from mvmnix.sandbox.profiles import common
from mvmnix.sandbox.profiles.profile import INT, Profile, names, only

#: The guest's connection: one, on a socket that listens already.
_CONNECTION: Final = names("accept4")
#: Files below the directory, by descriptors. virtiofsd drops what it may not do by umask and unshare(CLONE_FS).
_FILES: Final = names(
    "fchown fchownat linkat symlinkat mkdirat renameat renameat2 unlinkat truncate ftruncate fallocate",
    "utimensat copy_file_range sendfile syncfs",
)
#: Extended attributes are read, to find that there are none for the guest; none is set.
_ATTRIBUTES: Final = names(
    "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr",
)
_CLONE_FS: Final = 0x200

FILE_SERVER: Final = Profile(
    allowed=(common.ORDINARY | _CONNECTION | _FILES | _ATTRIBUTES).difference(common.NO_SET_ID),
    refused=common.REFUSED,
    conditions={
        **common.THREADS,
        **common.OWN,
        **common.commands(),
        **common.NO_SET_ID,
        **common.REGULAR_FILES,
        **common.requests(),
        "unshare": only(0, INT, [_CLONE_FS]),
    },
)
#: Where what is written is counted (procfs.py): fallocate takes room on the disk without a byte that was written;
#: who has no fallocate writes.
FILE_SERVER_COUNTED: Final = FILE_SERVER.without("fallocate")
