"""Looks for a secret in what a run left behind: plain, in base64 at each alignment, in hexadecimal, and compressed."""

import base64
import lzma
import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mvmnix.machines.output_log import NEWER, OLDER

#: Bytes that a compressed piece may have when it is inflated, and how often pieces may lie in pieces.
INFLATED = 64 << 20
DEPTH = 3
#: Bytes of compressed data that are tried from where a piece begins.
TRIED = 8 << 20


@dataclass(frozen=True, slots=True)
class Leak:
    """Where a secret was found, and in which form."""

    where: str
    form: str


def forms(secret: bytes) -> Mapping[str, bytes]:
    """What to look for: of base64 the characters that the secret alone decides, whatever stands before and after."""
    found = {"plain": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + secret)
        decided = text[(0, 2, 3)[offset] : (offset + len(secret)) * 8 // 6]
        found[f"base64, {offset} bytes in"] = decided
        found[f"base64url, {offset} bytes in"] = decided.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def in_bytes(secrets: Mapping[str, bytes], data: bytes, *, depth: int = DEPTH) -> Iterator[Leak]:
    """Every secret in data, by the secret's name: also where lines break it, and inside of what is compressed."""
    lines = data.translate(None, b"\r\n")
    for name, secret in secrets.items():
        yield from (Leak(name, form) for form, text in forms(secret).items() if text in data or text in lines)
    if depth:
        for kind, inflated in pieces(data):
            yield from (Leak(it.where, f"{kind}: {it.form}") for it in in_bytes(secrets, inflated, depth=depth - 1))


def pieces(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What can be inflated, from wherever it begins."""
    for kind, (magic, inflate) in _COMPRESSED.items():
        at = data.find(magic)
        while at >= 0:
            if inflated := inflate(data[at : at + TRIED]):
                yield kind, inflated
            at = data.find(magic, at + 1)


def in_files(
    secrets: Mapping[str, bytes], roots: Iterable[Path], *, since: float, but: Iterable[Path] = ()
) -> Iterator[Leak]:
    """The same in every file below `roots` that was written since a time (by ctime), and in its name and target."""
    left_out = {str(path) for path in but}
    for path in written(roots, since):
        if str(path) in left_out:
            continue
        texts = [os.fsencode(path.name)]
        try:
            texts.append(os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes())
            if path.name in {NEWER, OLDER}:
                texts.append(printed(path.read_bytes()))
        except OSError:  # others work in the same /tmp, and take their files away
            continue
        found = dict.fromkeys(leak for text in texts for leak in in_bytes(secrets, text))
        yield from (Leak(f"{it.where} in {path}", it.form) for it in found)


def printed(log: bytes) -> bytes:
    """The output in a file that holds a machine's: what was printed at once may lie in two records."""
    found, at = b"", 0
    while at + 5 <= len(log):
        kind, size = struct.unpack_from(">BI", log, at)
        found += log[at + 5 : at + 5 + size] if kind else b""
        at += 5 + size
    return found


def written(roots: Iterable[Path], since: float) -> Iterator[Path]:
    """Regular files and links below `roots` whose content or name is not older than `since`."""
    for root in roots:
        for directory, _, names in os.walk(root):
            for path in (Path(directory) / name for name in names):
                try:
                    status = path.lstat()
                except OSError:
                    continue
                if status.st_ctime >= since and (path.is_file() or path.is_symlink()):
                    yield path


def _gzip(data: bytes) -> bytes:
    return _zlib(data, 31)


def _zlib(data: bytes, bits: int = 15) -> bytes:
    inflating = zlib.decompressobj(bits)
    try:
        return inflating.decompress(data, INFLATED)
    except zlib.error:
        return b""


def _xz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, INFLATED)
    except lzma.LZMAError:
        return b""


def _zstd(data: bytes) -> bytes:
    done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False)
    return done.stdout[:INFLATED]


_COMPRESSED: Mapping[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"\x1f\x8b\x08", _gzip),
    "zlib": (b"\x78\x9c", _zlib),
    "xz": (b"\xfd7zXZ\0", _xz),
    "zstd": (b"\x28\xb5\x2f\xfd", _zstd),
}
