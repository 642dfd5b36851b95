"""Reads the evidence of an image that lies in a directory of `mvm build --out`; trusts nothing of it."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from mvmnix.api import files
from mvmnix.api.verify.image import open_exported
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.evidence.build import RebuildEvidence
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.store import STATEMENT_LIMIT, IndexEntry, VerifiedImage
from mvmnix.launch.vmm.boot_files import verity_reasons
from mvmnix.model import Artifact, Digest
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.verify import Verified, verify_alone
from mvmnix.store import digest_of

#: The file that makes a directory one of an image.
MANIFEST: Final = "manifest.json"
_HINT: Final = "name a directory of `mvm build --out`"


def exported_build(directory: Path) -> StoredBuild:
    """An exported build, every file of it hashed. Raises UsageError for a file that is missing or is none."""
    bundle = _document(_canonical(files.read(str(directory / BUNDLE_NAME), STATEMENT_LIMIT, _HINT)))
    with open_exported(directory) as it:
        manifest, parts = _document(it.manifest), tuple(map(_document, it.parts))
        lock, sbom = (None if data is None else _document(data) for data in (it.lock, it.sbom))
        fds = {"kernel": it.files.kernel, "initrd": it.files.initrd, "rootfs": it.files.rootfs}
        hashed = {name: Artifact(name, *digest_of(fd)) for name, fd in fds.items()}
        entry = IndexEntry(manifest.digest, bundle.digest, None if lock is None else lock.digest)
        stored = StoredBuild(entry, manifest, bundle, lock, sbom, parts, hashed, rebuilds=it.rebuilds)
        image = stored.image
        if isinstance(image, MvmnixError):
            return stored
        reasons = tuple(verity_reasons(it.files.rootfs, image.verity))
        return StoredBuild(entry, manifest, bundle, lock, sbom, parts, hashed, reasons, rebuilds=it.rebuilds)


def _document(data: bytes) -> StoredDocument:
    return StoredDocument(Digest.of(data), data)


def _canonical(bundle: bytes) -> bytes:
    """A bundle as mvm would have written it: here, and not at a launch, one in another formatting is taken too."""
    try:
        return envelope.parse_bundle(bundle).to_bytes()
    except RefusedError:
        return bundle  # its verification says why it is none


def rebuild_evidence_of(stored: StoredBuild, *, policy: TrustPolicy, now: datetime) -> RebuildEvidence:
    """What the rebuilds beside an exported image testify."""

    def provenances(first: VerifiedImage) -> Iterator[tuple[str, Verified[Provenance] | RefusedError]]:
        for bundle in stored.rebuilds:
            try:
                evidence = first.evidence.of_rebuild(bundle)
                found: Verified[Provenance] | RefusedError = verify_alone(
                    evidence, policy=policy, artifacts=first.image.artifacts, image=first.image, now=now
                )
            except RefusedError as error:
                found = error
            yield Digest.of(bundle).hex, found

    return provenances
