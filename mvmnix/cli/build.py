"""`mvm build`: builds an image or finds it finished, verified either way, and exports it if asked."""

import os
from pathlib import Path

import click

from mvmnix.builder.keeping.library import Finished
from mvmnix.cli.house import House, house
from mvmnix.cli.references import reference
from mvmnix.cli.telling import answer
from mvmnix.cli.workshop import workshop
from mvmnix.errors import UsageError

#: Under which names an export holds the evidence beside the image's four files.
BUNDLE, LOCK = "provenance.sigstore.json", "flake.lock"


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]")
@click.option("--again", is_flag=True, help="Build it even if a finished build is kept.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the files and their evidence to this new directory."
)
@click.option("--json", "as_json", is_flag=True, help="Print digests as JSON.")
def build(flake: str, again: bool, out: Path | None, as_json: bool) -> None:
    """Build FLAKE's image inside the builder VM, sign its provenance and verify it.

    A finished build is used again after its bundle, manifest and bytes verify.
    """
    wanted = reference(flake)
    with house() as rooms, rooms.working():
        with workshop(rooms) as shop:
            finished = shop.new_image(wanted) if again else shop.image(wanted)
        if out is not None:
            export(rooms, finished, out)
    image = {artifact.name: str(artifact.digest) for artifact in finished.image.artifacts}
    if as_json:
        level = finished.provenance.level
        answer("build", {"artifacts": image, "provenance": str(finished.provenance.bundle), "level": level})
    else:
        click.echo(str(finished.image.manifest.digest))


def export(rooms: House, finished: Finished, out: Path) -> None:
    """Write an image's four files and its evidence into a new directory, hashed on the way."""
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{out} is there already", hint="name a directory that is not there yet") from error
    for artifact in finished.image.artifacts:
        with (out / artifact.name).open("wb") as file:
            rooms.library.images.copy(artifact.digest, file.write)
            os.fchmod(file.fileno(), 0o444)
    (out / BUNDLE).write_bytes(finished.bundle)
    if finished.lock is not None:
        (out / LOCK).write_bytes(finished.lock)
