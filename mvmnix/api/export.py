"""Writes images and their evidence into directories and archives, and takes in archives."""

import os

from mvmnix.api import files
from mvmnix.api.context import Context
from mvmnix.clock import now
from mvmnix.images import image_archive
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME
from mvmnix.images.prune import KeptImages
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import VerifiedImage
from mvmnix.output_files import NewDirectory, NewFile
from mvmnix.provenance.slsa.predicate import SBOM_NAME
from mvmnix.store import chunks


def export_image(context: Context, finished: VerifiedImage, out: NewDirectory) -> None:
    """Write an image's four files and its evidence into a new directory, hashed on the way.

    Raises UsageError for a directory that exists.
    """
    it, rebuilds = finished.evidence, RebuildStore(context.roots.state).bundles(finished.image.manifest.digest)
    with out.make() as place:
        for artifact in finished.image.artifacts:
            with place.file(artifact.name) as file:
                context.library.images.copy(artifact.digest, file.write)
                os.fchmod(file.fileno(), 0o444)
        place.write(BUNDLE_NAME, it.provenance)
        if it.lock is not None:
            place.write(LOCK_NAME, it.lock)
        if it.sbom is not None:
            place.write(SBOM_NAME, it.sbom)
        if it.parts:
            place.write(PARTS_NAME, b"\n".join(it.parts))
        if rebuilds:
            place.write(REBUILDS_NAME, b"\n".join(rebuilds))


def save_image(context: Context, digest: str, out: NewFile) -> None:
    """Write the image whose manifest has this digest, or begins with it, to a new archive; it is verified first.

    Raises UsageError for a file that exists.
    """
    with context.working():
        (_, entry), *_ = KeptImages(context.library).find(digest)
        finished = context.library.open(entry, policy=context.policy, now=now())
        with out.open() as file:
            image_archive.pack(context.library, finished, file.write)


def load_image(context: Context, file: str) -> VerifiedImage:
    """Take an image out of an archive of `save_image`; it is kept once the trust policy admits it.

    Raises UsageError for what is no regular file, RefusedError, which is logged.
    """
    with files.regular(file, "name an archive that is there") as fd, context.working(), context.recorded():
        return image_archive.unpack(context.library, chunks(fd), policy=context.policy, now=now())
