"""Takes one executable out of a .deb (deb(5)), which the sandbox unpacks, and makes the seed's NAR of it."""

from collections.abc import Iterator
from typing import Final

from mvmnix.builder.pins.locks import DebianPin, Seed
from mvmnix.errors import ReasonCode, RefusedError, clipped, refuse
from mvmnix.formats.nar import Dir, File, nar_hash, nar_of_tree
from mvmnix.model import Source
from mvmnix.sandbox.helper import Sandbox
from mvmnix.sandbox.helper_command import Bounds
from mvmnix.sandbox.trusted_executables import Candidates, locate
from mvmnix.system.child_causes import Cause
from mvmnix.system.process import ProcessError

#: Bytes of the package, of the archive in it and of the executable, at most: all of busybox-static has 2 MiB.
LIMIT: Final = 16 << 20
#: Its archive is a file there; xz takes 65 MiB of memory for what `xz -9` packed.
BOUNDS: Final = Bounds(seconds=300, room=2 * LIMIT, memory=512 << 20, output=LIMIT, processes=16)
_DPKG_DEB: Final = Candidates("dpkg-deb", ("/usr/bin/dpkg-deb",), "this needs Debian's dpkg (package dpkg)")
#: $1 dpkg-deb, $2 the path of the executable. What is no regular file has no output.
_EXTRACT: Final = r"""
"$1" --fsys-tarfile - >archive
exec tar --extract --file=archive --to-stdout --no-recursion --occurrence=1 -- "./$2"
"""
#: Characters of what they say, in a message.
_WORDS: Final = 300
#: dpkg-deb(1): each thread of xz would have memory of its own.
_ENVIRONMENT: Final = {"DPKG_DEB_THREADS_MAX": "1"}


def seed_of(pin: DebianPin, path: str, deb: bytes) -> Seed:
    """The seed that stands at `path` in a package whose bytes were checked against its pin. Raises as `executable`."""
    digest, _ = nar_hash(seed_nar(path, executable(pin.source, deb, path)))
    return Seed(pin.name, path, digest)


def seed_nar(path: str, data: bytes) -> Iterator[bytes]:
    """The NAR of a directory with `bin/NAME`, in chunks: busybox goes by the name under which it is called.

    `path` is where the executable stands in its package, `data` its bytes.
    """
    name = path.rpartition("/")[2].encode()
    return nar_of_tree(Dir({b"bin": Dir({name: File.of(data, executable=True)})}))


def executable(package: Source, deb: bytes, path: str) -> bytes:
    """The bytes of a regular file in a .deb, whose names begin with `./` as dpkg-deb writes them.

    Raises RefusedError [source-unusable], MvmnixError where there is no sandbox or no dpkg-deb.
    """
    try:
        sandbox = Sandbox(environment=_ENVIRONMENT, bounds=BOUNDS)
        data = sandbox.script(_EXTRACT, locate(_DPKG_DEB), path, input_=deb).stdout
    except ProcessError as error:
        said = clipped(error.done.stderr.decode(errors="replace"), lines=1, characters=_WORDS)
        hint = "" if error.kind is Cause.OWN else error.hint
        raise _unusable(package, f"{path} can't be unpacked, or not within bounds: {said}", hint) from error
    if not data:
        raise _unusable(package, f"it has no regular file {path}")
    return data


def _unusable(package: Source, why: str, hint: str = "") -> RefusedError:
    return refuse(ReasonCode.SOURCE_UNUSABLE, package.uri, why, hint or "choose another package for the seed")
