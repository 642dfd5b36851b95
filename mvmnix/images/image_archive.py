"""Packs a kept image with its evidence into one archive, and takes such an archive in as a stranger's bytes.

POSIX.1-1988 ustar: evidence first, then the files that boot. Taking one in:

1. The stream is taken apart by the strict reader: plain files of expected names within bounds, nothing else.
2. Before anything large is read, an admitted signer has to have said what the manifest says, and with it the sizes.
3. Kernel, initrd, rootfs and manifest are hashed as they arrive, and must agree with each other and with verity.
4. The provenance is verified against the policy in force, over what was hashed, before anything gets a name here.
5. Files are kept by their digests, and the index names them as something that was loaded, not as a build of a flake;
   of bundles of kept parts those are kept that the provenance names.
"""

import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mvmnix.builder.session import import_outputs
from mvmnix.builder.session.archive import BLOCK, ArchiveReader, Receiver
from mvmnix.builder.session.import_outputs import OutputImport
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats import manifest as manifests
from mvmnix.formats.strict import canonical
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, bundles_of
from mvmnix.images.store import STATEMENT_LIMIT, ImageStore, IndexEntry, VerifiedImage
from mvmnix.model import Artifact
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.predicate import SBOM_NAME
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.verify import manifest_reasons, read_claim, verify_alone

_OPTIONAL: Final = (LOCK_NAME, SBOM_NAME, PARTS_NAME)
_EVIDENCE: Final = (BUNDLE_NAME, *_OPTIONAL)
_MANIFEST: Final = "manifest.json"
#: What eleven octal digits can say.
_LARGEST: Final = 8**11 - 1


def pack(library: ImageStore, finished: VerifiedImage, write: Callable[[bytes], object]) -> None:
    """Write an image that was verified just now, hashed once more on the way. The same image, the same bytes."""
    if too_large := [artifact.name for artifact in finished.image.artifacts if artifact.size > _LARGEST]:
        raise MvmnixError(f"{', '.join(too_large)}: larger than an archive can say", hint="mvm build --out DIR FLAKE")
    it = finished.evidence
    evidence = (it.provenance, it.lock, it.sbom, b"\n".join(it.parts) or None)
    for name, data in zip(_EVIDENCE, evidence, strict=True):
        if data is not None:
            _begin(name, len(data), write)
            write(data)
            write(bytes(-len(data) % BLOCK))
    for artifact in reversed(finished.image.artifacts):  # the manifest says what to expect
        _begin(artifact.name, artifact.size, write)
        library.images.copy(artifact.digest, write)
        write(bytes(-artifact.size % BLOCK))
    write(bytes(2 * BLOCK))


def _begin(name: str, size: int, write: Callable[[bytes], object]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    write(member.tobuf(tarfile.USTAR_FORMAT))


def unpack(library: ImageStore, archive: Iterable[bytes], *, policy: TrustPolicy, now: datetime) -> VerifiedImage:
    """Take an image in. Raises RefusedError, and nothing of it stays."""
    with OutputImport(library.images) as imported:
        evidence: dict[str, _Bytes] = {}

        def begin(name: str) -> Receiver:
            if name in _EVIDENCE:
                return evidence.setdefault(name, _Bytes())
            if name != _MANIFEST:
                for artifact in _described(imported, evidence, policy):  # 2
                    reader.expect(artifact)
            return imported.open(name)

        limits = dict.fromkeys(_EVIDENCE, STATEMENT_LIMIT) | import_outputs.LIMITS
        reader = ArchiveReader(limits, begin, optional=_OPTIONAL, refused=_refused)  # 1
        for chunk in archive:
            reader.write(chunk)
        reader.close()
        image = imported.agreed()  # 3
        it = _evidence(imported.manifest, {name: bytes(file.data) for name, file in evidence.items()})
        provenance = verify_alone(it, policy=policy, artifacts=image.artifacts, image=image, now=now)  # 4
        if provenance.claim.sbom is not None and it.sbom is None:
            raise _refused(f"its provenance names the SBOM {provenance.claim.sbom}, which it lacks")
        named = {part.bundle for part in provenance.claim.kept}
        it = replace(it, parts=tuple(part for part in it.parts if Digest.of(part) in named))
        imported.keep()  # 5
    entry = library.take_in(it)
    library.note(_name(entry), entry)
    return VerifiedImage(image, it, provenance)


def _described(imported: OutputImport, evidence: Mapping[str, "_Bytes"], policy: TrustPolicy) -> tuple[Artifact, ...]:
    """The files that an admitted signer has said the image has, of an archive in which that comes first."""
    if BUNDLE_NAME not in evidence or not imported.has(_MANIFEST):
        raise _refused("its provenance and its manifest don't come before the files that boot")
    image = manifests.parse(imported.manifest)
    claimed = read_claim(bytes(evidence[BUNDLE_NAME].data), policy)
    if reasons := tuple(manifest_reasons(claimed, image)):
        raise RefusedError(*reasons, steps=claimed.steps)
    return image.artifacts


def _evidence(manifest: bytes, files: Mapping[str, bytes]) -> ImageEvidence:
    return ImageEvidence(
        manifest=manifest,
        provenance=files[BUNDLE_NAME],
        lock=files.get(LOCK_NAME),
        sbom=files.get(SBOM_NAME),
        parts=_bundles(files[PARTS_NAME]) if PARTS_NAME in files else (),
    )


def _bundles(lines: bytes) -> tuple[bytes, ...]:
    try:
        return bundles_of(lines)
    except ValueError as error:
        raise _refused(f"{PARTS_NAME}: {error}") from error


class _Bytes:
    """A small file of an archive, in memory; the reader bounds it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        """Take more bytes of it."""
        self.data += data

    def close(self) -> None:
        """It is complete."""


def _name(entry: IndexEntry) -> str:
    """The name of the index entry of something loaded: no build of a flake is ever looked for under it."""
    return Digest.of(canonical(["loaded", entry.manifest.hex, entry.bundle.hex])).hex


def _refused(why: str) -> RefusedError:
    return refuse(ReasonCode.ARCHIVE_MALFORMED, "the archive", why, "have it made again, by `mvm image save`")
