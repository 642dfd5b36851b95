"""`mvm build`: builds an image or finds it finished, verified either way, and exports it if asked."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from mvmnix.api.context import Context, open_context
from mvmnix.api.keyless import KeylessChoice
from mvmnix.builder.keeping.library import Finished
from mvmnix.builder.keeping.parcel import BUNDLE, LOCK, PARTS, REBUILDS
from mvmnix.builder.keeping.rebuilds import Rebuilds
from mvmnix.cli.builder_vm import Means
from mvmnix.cli.rebuild import rebuild, told
from mvmnix.cli.references import reference
from mvmnix.cli.signing import signing
from mvmnix.cli.telling import TERMINAL, answer
from mvmnix.cli.workshop import workshop
from mvmnix.errors import UsageError
from mvmnix.keys import Role
from mvmnix.provenance.predicate import SBOM_NAME


def means(command: Callable[..., None]) -> Callable[..., None]:
    """The options that bound a build, handed over as one argument `limits`."""

    @click.option("--vcpus", type=click.IntRange(1, 64), help="Processors of the builder VM.")
    @click.option("--memory", type=click.IntRange(512, 2**20), metavar="MIB", help="Its memory.")
    @click.option("--disk", type=click.IntRange(64, 2**20), metavar="MIB", help="Its disk, which is in that memory.")
    @click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Wall time of the build.")
    @wraps(command)
    def bounded(vcpus: int | None, memory: int | None, disk: int | None, timeout: int | None, **others: object) -> None:
        command(limits=Means(vcpus, memory, disk, timeout), **others)

    return bounded


@click.command()
@click.argument("flake", metavar="FLAKE[#ATTR]")
@click.option("--again", is_flag=True, help="Build it even if a finished build is kept.")
@click.option(
    "--rebuild", "twice", is_flag=True, help="Build it once more, in a machine that looks otherwise, and compare."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the files and their evidence to this new directory."
)
@means
@signing
@click.option("--json", "as_json", is_flag=True, help="Print digests as JSON.")
def build(
    flake: str, *, again: bool, twice: bool, out: Path | None, limits: Means, choice: KeylessChoice, as_json: bool
) -> None:
    """Build FLAKE's image inside the builder VM, sign its provenance and verify it.

    A finished build is used again after its bundle, manifest and bytes verify; not with --keyless, if a key signed
    it. With --rebuild, that a second build made the same four files is signed as a second provenance; files that
    differ are named.
    """
    wanted = reference(flake)
    with open_context(TERMINAL) as rooms, rooms.working():
        rooms.signer.choose(choice, Role.BUILDER)
        with workshop(rooms, limits) as shop:
            finished = shop.new_image(wanted) if again else shop.image(wanted)
            if choice.keyless and finished.provenance.signer.key is not None:
                finished = shop.new_image(wanted)
            second = rebuild(rooms, shop, shop.request(wanted), finished) if twice else None
        if out is not None:
            export(rooms, finished, out)
    image = {artifact.name: str(artifact.digest) for artifact in finished.image.artifacts}
    if as_json:
        said = {"artifacts": image, "provenance": str(finished.provenance.bundle), "level": finished.provenance.level}
        answer("build", said | ({} if second is None else {"rebuild": told(second)}))
    else:
        click.echo(str(finished.image.manifest.digest))


def export(rooms: Context, finished: Finished, out: Path) -> None:
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
    if finished.sbom is not None:
        (out / SBOM_NAME).write_bytes(finished.sbom)
    if finished.parts:
        (out / PARTS).write_bytes(b"\n".join(finished.parts))
    rebuilds = Rebuilds(rooms.roots.state).bundles(finished.image.manifest.digest)
    if rebuilds:
        (out / REBUILDS).write_bytes(b"\n".join(rebuilds))
