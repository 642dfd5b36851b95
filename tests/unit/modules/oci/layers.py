"""Makes layers for tests: archives by Python's own tarfile, which is not what reads them, and broken ones by hand."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from modules.oci.apply import Layer, Wanted
from modules.oci.merge import Directory, Merge, Symlink, nodes
from modules.oci.tarball import entries

type Member = tuple[tarfile.TarInfo, bytes]

WANTED: Final = Wanted((), "", "/", (), ())


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", *, linkname: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), linkname
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info, data


def _with(made: Member, fields: Mapping[str, int]) -> Member:
    for field, value in fields.items():
        setattr(made[0], field, value)
    return made


def file(name: str, data: bytes = b"", **fields: int) -> Member:
    return _with(member(name, data=data), fields)


def folder(name: str, **fields: int) -> Member:
    return _with(member(name, tarfile.DIRTYPE), fields)


def symlink(name: str, target: str) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, linkname=target)


def archive(*members: Member, style: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive as tarfile writes it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=style) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def block(name: bytes = b"x", flag: bytes = b"0", size: int = 0, /, **fields: bytes) -> bytes:
    """A ustar header by hand; `fields` replaces parts of it, by name, before the sum is taken."""
    places = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "link": 157, "magic": 257, "prefix": 345}
    data = bytearray(512)
    data[: len(name)] = name
    data[124:136] = b"%011o\0" % size
    data[156:157] = flag
    data[257:265] = b"ustar\x0000"
    for field, value in fields.items():
        data[places[field] : places[field] + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: bytes) -> bytes:
    """An extended header of these records, as they are."""
    data = b"".join(records)
    return block(b"pax", b"x", len(data)) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
    return str(length).encode() + rest


END: Final = bytes(1024)


def merge(*layers: bytes, **limits: int) -> Merge:
    """The tree of these uncompressed layers."""
    merged = Merge(**limits)
    for number, layer in enumerate(layers):
        merged.apply(number, entries(io.BytesIO(layer), len(layer)))
    return merged


def shown(merged: Merge, *layers: bytes) -> Mapping[str, str]:
    """A tree as text: `/` for a directory, `-> TARGET` for a link, a file's contents."""
    result = {}
    for path, node in nodes(merged.root):
        if isinstance(node, Directory):
            text = "/"
        elif isinstance(node, Symlink):
            text = f"-> {node.target.decode(errors='surrogateescape')}"
        else:
            text = layers[node.spool][node.offset : node.offset + node.size].decode()
        if path:
            result[b"/".join(path).decode(errors="surrogateescape")] = text
    return result


def tree(*layers: tuple[Member, ...]) -> Mapping[str, str]:
    """What these layers make, as text."""
    archives = [archive(*members) for members in layers]
    return shown(merge(*archives), *archives)


@dataclass(frozen=True, slots=True)
class Sent:
    """A layer as a registry sends it."""

    layer: Layer
    data: bytes


def sent(data: bytes, compress: Callable[[bytes], bytes] | None = None) -> Sent:
    """A layer, compressed or not, that is what its description says."""
    packed = data if compress is None else compress(data)
    return Sent(Layer(compress is not None, len(packed), hashlib.sha256(data).hexdigest()), packed)
