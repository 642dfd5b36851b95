"""Writes images and their evidence into directories and archives, and takes in archives."""

import os
from pathlib import Path

from mvmnix.api import files
from mvmnix.api.context import Context
from mvmnix.clock import now
from mvmnix.errors import UsageError
from mvmnix.images import (
    BUNDLE_NAME,
    LOCK_NAME,
    PARTS_NAME,
    REBUILDS_NAME,
    KeptImages,
    RebuildStore,
    VerifiedImage,
    image_archive,
)
from mvmnix.provenance.slsa import SBOM_NAME
from mvmnix.store import chunks


def export_image(context: Context, finished: VerifiedImage, out: Path) -> None:
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
    it = finished.evidence
    (out / BUNDLE_NAME).write_bytes(it.provenance)
    if it.lock is not None:
        (out / LOCK_NAME).write_bytes(it.lock)
    if it.sbom is not None:
        (out / SBOM_NAME).write_bytes(it.sbom)
    if it.parts:
        (out / PARTS_NAME).write_bytes(b"\n".join(it.parts))
    rebuilds = RebuildStore(context.roots.state).bundles(finished.image.manifest.digest)
    if rebuilds:
        (out / REBUILDS_NAME).write_bytes(b"\n".join(rebuilds))


def save_image(context: Context, digest: str, out: Path) -> None:
    """Write the image whose manifest has this digest, or begins with it, to a new archive; it is verified first.

    Raises UsageError for a file that exists.
    """
    with context.working():
        (_, entry), *_ = KeptImages(context.library).find(digest)
        finished = context.library.open(entry, policy=context.policy, now=now())
        try:
            file = out.open("xb")
        except OSError as error:
            raise UsageError(
                f"{out} can't be made: {error.strerror}", hint="name a file that is not there yet"
            ) from error
        try:
            with file:
                image_archive.pack(context.library, finished, file.write)
        except BaseException:
            out.unlink(missing_ok=True)
            raise


def load_image(context: Context, file: str) -> VerifiedImage:
    """Take an image out of an archive of `save_image`; it is kept once the trust policy admits it.

    Raises UsageError for what is no regular file, RefusedError, which is logged.
    """
    with files.regular(file, "name an archive that is there") as fd, context.working(), context.recorded():
        return image_archive.unpack(context.library, chunks(fd), policy=context.policy, now=now())
