"""Takes one executable out of a .deb (ar archive with a compressed tar in it) and makes the seed's NAR of it; no I/O.

Formats: deb(5), ar(5). It is done here, as the seed is what everything else is unpacked with.
"""

import io
import tarfile
from collections.abc import Iterator

from mvmnix.builder.pins.locks import DebianPin, Seed
from mvmnix.errors import MvmnixError
from mvmnix.nar import Dir, File, nar_hash, nar_of_tree

_MAGIC = b"!<arch>\n"
_HEADER = 60
#: No seed is larger; a broken size field must not fill the memory.
_LIMIT = 64 << 20


def seed_of(pin: DebianPin, path: str, deb: bytes) -> Seed:
    """The seed that stands at `path` in a package whose bytes were checked against its pin. Raises MvmnixError."""
    digest, _ = nar_hash(seed_nar(path, executable(deb, path)))
    return Seed(pin.name, path, digest)


def seed_nar(path: str, data: bytes) -> Iterator[bytes]:
    """The NAR of a directory with `bin/NAME`, in chunks: busybox goes by the name under which it is called.

    `path` is where the executable stands in its package, `data` its bytes.
    """
    name = path.rpartition("/")[2].encode()
    return nar_of_tree(Dir({b"bin": Dir({name: File.of(data, executable=True)})}))


def executable(deb: bytes, path: str) -> bytes:
    """The bytes of a regular file in a .deb. Raises MvmnixError when the .deb is malformed or has no such file."""
    for name, content in _members(deb):
        if name.startswith(b"data.tar"):
            return _tar_member(content, path)
    raise MvmnixError("a .deb has no data archive", hint="choose another package for the seed")


def _members(deb: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of an ar archive's members; each starts at an even offset."""
    if not deb.startswith(_MAGIC):
        raise MvmnixError("not a .deb: it does not begin as an ar archive", hint="mvm pin update")
    at = len(_MAGIC)
    while at + _HEADER <= len(deb):
        header = deb[at : at + _HEADER]
        size = header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            raise MvmnixError("a .deb has a malformed ar header", hint="mvm pin update")
        at += _HEADER
        if at + int(size) > len(deb):
            raise MvmnixError("a .deb is cut off", hint="mvm pin update")
        yield header[:16].rstrip(b" /"), deb[at : at + int(size)]
        at += int(size) + int(size) % 2


def _tar_member(archive: bytes, path: str) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            member = next((one for one in tar if one.name.removeprefix("./") == path and one.isreg()), None)
            if member is not None and member.size <= _LIMIT:
                file = tar.extractfile(member)
                return file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        hint = "mvm reads data.tar in xz and gzip; choose another package for the seed"
        raise MvmnixError(f"a .deb's data archive can't be read: {error}", hint=hint) from error
    raise MvmnixError(f"a .deb has no regular file {path}", hint="choose another package for the seed")
