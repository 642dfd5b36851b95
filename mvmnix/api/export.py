"""Writes a finished image and its evidence into a directory."""

import os
from pathlib import Path

from mvmnix.api.context import Context
from mvmnix.builder.keeping.library import Finished
from mvmnix.builder.keeping.parcel import BUNDLE, LOCK, PARTS, REBUILDS
from mvmnix.builder.keeping.rebuilds import Rebuilds
from mvmnix.errors import UsageError
from mvmnix.provenance.predicate import SBOM_NAME


def export_image(context: Context, finished: Finished, out: Path) -> None:
    """Write an image's four files and its evidence into a new directory, hashed on the way.

    Raises UsageError for a directory that exists.
    """
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{out} is there already", hint="name a directory that is not there yet") from error
    for artifact in finished.image.artifacts:
        with (out / artifact.name).open("wb") as file:
            context.library.images.copy(artifact.digest, file.write)
            os.fchmod(file.fileno(), 0o444)
    (out / BUNDLE).write_bytes(finished.bundle)
    if finished.lock is not None:
        (out / LOCK).write_bytes(finished.lock)
    if finished.sbom is not None:
        (out / SBOM_NAME).write_bytes(finished.sbom)
    if finished.parts:
        (out / PARTS).write_bytes(b"\n".join(finished.parts))
    rebuilds = Rebuilds(context.roots.state).bundles(finished.image.manifest.digest)
    if rebuilds:
        (out / REBUILDS).write_bytes(b"\n".join(rebuilds))
