"""Writes the cpio archive of an initramfs."""


def member(name: str, mode: int, data: bytes = b"") -> bytes:
    """A file or directory of an initramfs: cpio's format "newc" (the kernel's early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % value for value in fields) + path
    return padded(head) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
