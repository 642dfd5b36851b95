"""`mvm image save` and `load`: an image with its evidence as one file, out of the library and into another's."""

import os
import stat
from pathlib import Path

import click

from mvmnix.api.context import open_context
from mvmnix.builder.keeping import parcel
from mvmnix.builder.keeping.shelves import Shelves
from mvmnix.cli.telling import TERMINAL
from mvmnix.errors import UsageError
from mvmnix.launch.host import now
from mvmnix.store import chunks


@click.command()
@click.argument("digest")
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="The new file to write.")
def save(digest: str, out: Path) -> None:
    """Write the image whose manifest has DIGEST, with its evidence, to a new archive; it is verified first."""
    with open_context(TERMINAL) as rooms, rooms.working():
        (_, entry), *_ = Shelves(rooms.library).find(digest)
        finished = rooms.library.open(entry, policy=rooms.policy, now=now())
        try:
            file = out.open("xb")
        except OSError as error:
            raise UsageError(
                f"{out} can't be made: {error.strerror}", hint="name a file that is not there yet"
            ) from error
        try:
            with file:
                parcel.pack(rooms.library, finished, file.write)
        except BaseException:
            out.unlink(missing_ok=True)
            raise


@click.command()
@click.argument("file", metavar="FILE")
def load(file: str) -> None:
    """Take an image out of FILE, an archive of `mvm image save`; it is kept once the trust policy admits it.

    Plans for it can be launched then. It is found by its digest, and never taken for a build of a flake here.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would hang
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}", hint="name an archive that is there") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{file} is no regular file", hint="name an archive that is there")
        with open_context(TERMINAL) as rooms, rooms.working(), rooms.recorded():
            finished = parcel.unpack(rooms.library, chunks(fd), policy=rooms.policy, now=now())
    finally:
        os.close(fd)
    click.echo(str(finished.image.manifest.digest))
