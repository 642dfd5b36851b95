"""What was found of a build when it was looked for: bytes, digests and failures, none of them trusted; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, RefusedError
from mvmnix.formats import manifest
from mvmnix.model import Artifact, Image
from mvmnix.provenance.verify.image_layouts import ImageEvidence


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A small file that is kept by its digest: its bytes, which have that digest, or why they could not be had."""

    digest: Digest
    found: bytes | MvmnixError

    @property
    def data(self) -> bytes | None:
        """The bytes, if they could be had."""
        return self.found if isinstance(self.found, bytes) else None

    @property
    def problem(self) -> MvmnixError | None:
        """Why the bytes could not be had."""
        return self.found if isinstance(self.found, MvmnixError) else None


@dataclass(frozen=True, slots=True)
class StoredBuild:
    """A build as the image store has it.

    `files` has kernel, initrd and rootfs as they were hashed, or why they could not be; `verity` what is wrong with the
    header of the rootfs; `builder` the kept build whose image the builder VM ran, where there is one; `rebuilds` the
    bundles of other builds of the image, as they lie there.
    """

    manifest: StoredDocument
    bundle: StoredDocument
    lock: StoredDocument | None = None
    sbom: StoredDocument | None = None
    parts: tuple[StoredDocument, ...] = ()
    files: Mapping[str, Artifact | MvmnixError] = field(default_factory=dict)
    verity: tuple[Reason, ...] | MvmnixError = ()
    builder: "StoredBuild | None" = None
    rebuilds: tuple[bytes, ...] = ()

    @property
    def image(self) -> Image | MvmnixError:
        """What the manifest says, or why it says nothing."""
        if isinstance(self.manifest.found, MvmnixError):
            return self.manifest.found
        try:
            return manifest.parse(self.manifest.found)
        except RefusedError as refused:
            return refused

    @property
    def evidence(self) -> ImageEvidence:
        """Those of its bytes that could be had."""
        lock, sbom = (None if document is None else document.data for document in (self.lock, self.sbom))
        return ImageEvidence(
            manifest=self.manifest.data or b"",
            provenance=self.bundle.data or b"",
            lock=lock,
            sbom=sbom,
            parts=tuple(document.data for document in self.parts if document.data is not None),
            rebuilds=self.rebuilds,
        )

    @property
    def unread(self) -> tuple[str, ...]:
        """What of the evidence beside manifest and bundle could not be read, so that its steps can't be taken."""
        documents = (
            ("flake.lock", self.lock),
            ("the SBOM", self.sbom),
            *(("a parts statement", it) for it in self.parts),
        )
        return tuple(name for name, document in documents if document is not None and document.data is None)
