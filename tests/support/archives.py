"""Writes archives as tests hand them in: tar of a builder, cpio of an initramfs."""

import io
import tarfile

from mvmnix.builder.session.import_outputs import OUTPUTS


def ustar(files: dict[str, bytes], order: tuple[str, ...] = OUTPUTS) -> bytes:
    """The archive that an honest builder sends, by another writer than its own."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in order:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(files[name]), 0o444
            tar.addfile(info, io.BytesIO(files[name]))
    return stream.getvalue()


def member(name: str, mode: int, data: bytes = b"") -> bytes:
    """A file or directory of an initramfs: cpio's format "newc" (the kernel's early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % value for value in fields) + path
    return padded(head) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
