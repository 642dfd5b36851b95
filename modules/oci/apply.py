"""Makes of an image's layers the one archive that its root file system is built from; runs inside the builder VM.

`apply.py IMAGE_JSON USER LAYER...`: the archive goes to stdout, `UID GID` into the new file USER. Each layer is held
against its digest's uncompressed twin (image-spec, config.md: diff_ids), and against bounds, before it is used.
"""

import hashlib
import json
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from modules.oci.accounts import LIMIT, account
from modules.oci.emit import contents, emit
from modules.oci.merge import Directory, File, Merge, parts_of
from modules.oci.tarball import LayerError, entries

#: All layers together, uncompressed, in bytes: what fits into the builder's scratch space beside everything else.
MAX_BYTES: Final = 2 << 30
MOUNT_POINTS: Final = ("dev", "proc", "sys", "run", "tmp", "etc")
_HOSTS: Final = b"127.0.0.1 localhost\n"
#: Which files the agent mounts the machine's own over, in a network (modules/agent/name_files.c).
_COVERED: Final = (b"resolv.conf", b"hosts")
_CHUNK: Final = 1 << 20
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as image.json has it: whether it is compressed, its size as it was sent, the digest of its archive."""

    gzip: bool
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What image.json asks of the root file system."""

    layers: tuple[Layer, ...]
    user: str
    directory: str
    volumes: tuple[str, ...]
    writable: tuple[str, ...]
    network: bool = False


def read(data: bytes) -> Wanted:
    """What mvm itself wrote (mvmnix/builder/oci/image.py) and mkOciGuest completed."""
    value = json.loads(data)
    layers = tuple(Layer(each["gzip"], each["size"], each["diffId"]) for each in value["layers"])
    places = tuple(value["volumes"]), tuple(value["writable"])
    return Wanted(layers, value["user"], value["directory"], *places, network=value["network"])


def uncompressed(file: BinaryIO, *, gzip: bool) -> Iterator[bytes]:
    """The archive in a layer, piece by piece: a gzip file of one or more members (RFC 1952), or the file itself."""
    if not gzip:
        while data := file.read(_CHUNK):
            yield data
        return
    member, data = zlib.decompressobj(_GZIP), file.read(_CHUNK)
    while True:
        try:
            piece = member.decompress(data, _CHUNK)
        except zlib.error as error:
            raise LayerError(f"it is not a gzip file: {error}") from None
        if piece:
            yield piece
        if member.eof:
            data = member.unused_data or file.read(_CHUNK)
            if not data:
                return
            member = zlib.decompressobj(_GZIP)
        elif data or piece:
            data = member.unconsumed_tail or file.read(_CHUNK)
        else:
            raise LayerError("the gzip file is cut off")


def spool(source: BinaryIO, layer: Layer, room: int, target: BinaryIO) -> int:
    """Uncompress a layer; returns its size in bytes. Raises LayerError, at the first byte too many."""
    if source.seek(0, 2) != layer.size:
        raise LayerError("it has another size than the manifest says")
    source.seek(0)
    hasher, size = hashlib.sha256(), 0
    for piece in uncompressed(source, gzip=layer.gzip):
        size += len(piece)
        if size > room:
            raise LayerError(f"the layers are larger than {MAX_BYTES} bytes once they are uncompressed")
        hasher.update(piece)
        target.write(piece)
    if hasher.hexdigest() != layer.diff_id:
        raise LayerError("its archive is not the one that the image's configuration names (diff_ids)")
    return size


def merged(wanted: Wanted, sources: Sequence[BinaryIO], spools: Sequence[BinaryIO], *, room: int = MAX_BYTES) -> Merge:
    """The tree of all layers, which are uncompressed into the spools. Raises LayerError naming the layer."""
    if not len(wanted.layers) == len(sources) == len(spools):
        raise LayerError("there are other layers than image.json names")
    merge = Merge()
    for number, (layer, source, target) in enumerate(zip(wanted.layers, sources, spools, strict=True)):
        try:
            size = spool(source, layer, room, target)
            room -= size
            merge.apply(number, entries(target, size))
        except LayerError as error:
            raise LayerError(f"layer {number + 1} of {len(sources)}: {error}") from None
    return merge


def complete(merge: Merge, wanted: Wanted, spools: list[BinaryIO]) -> None:
    """Add what every guest has: places to mount on, writable places, a working directory, the name localhost."""
    for text in (*MOUNT_POINTS, *wanted.writable):
        merge.directory(parts_of(text.strip("/").encode()))
    merge.root.children.pop(b"dev")
    merge.directory((b"dev",))
    for text in wanted.volumes:
        if merge.directory(parts_of(text.strip("/").encode())).children:
            raise LayerError(f"{text!r}: a volume that the image has files in, which is not supported")
    merge.walk(parts_of(wanted.directory.strip("/").encode()), create=True)
    children = merge.directory((b"etc",)).children
    if b"hosts" not in children:
        children[b"hosts"] = File(0o644, 0, 0, len(spools), 0, len(_HOSTS))
        spools.append(BytesIO(_HOSTS))
    for name in _COVERED if wanted.network else ():
        if isinstance(children.get(name), Directory):
            raise LayerError(f"/etc/{name.decode()} is a directory, and no machine in a network can have it so")
        if not isinstance(children.get(name), File):  # a link would lead elsewhere
            children[name] = File(0o644, 0, 0, len(spools), 0, 0)
            spools.append(BytesIO())


def user_of(merge: Merge, wanted: Wanted, spools: Sequence[BinaryIO]) -> tuple[int, int]:
    """As whom the workload runs."""

    def reader(name: str) -> bytes:
        found = merge.file(parts_of(name.encode()))
        if found is None:
            return b""
        if found.size > LIMIT:
            raise LayerError(f"/{name} is larger than {LIMIT} bytes")
        return b"".join(contents(found, spools))

    return account(wanted.user, reader)


def main(image: str, user: str, *layers: str) -> None:
    """Apply the layers in these files."""
    wanted = read(Path(image).read_bytes())
    with ExitStack() as stack:
        sources = [stack.enter_context(Path(layer).open("rb")) for layer in layers]
        spools: list[BinaryIO] = [stack.enter_context(tempfile.TemporaryFile(dir=".")) for _ in layers]
        merge = merged(wanted, sources, spools)
        complete(merge, wanted, spools)
        uid, gid = user_of(merge, wanted, spools)
        Path(user).write_text(f"{uid} {gid}\n")
        emit(merge.root, spools, sys.stdout.buffer.write)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except LayerError as error:
        sys.exit(f"the image is refused: {error}")
