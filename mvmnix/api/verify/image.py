"""Verifies an exported image, and a plan for it, under a trust policy, by all steps that a launch takes and more."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mvmnix import manifest, strict
from mvmnix.api import files
from mvmnix.api.verify import bundles
from mvmnix.builder.keeping.library import LIMIT
from mvmnix.builder.keeping.parcel import BUNDLE, LOCK, PARTS, REBUILDS
from mvmnix.keys import Role
from mvmnix.launch.boot_files import OpenFiles
from mvmnix.launch.host import now
from mvmnix.launch.verify import verify as verify_plan
from mvmnix.model import Artifact, Image
from mvmnix.provenance import envelope
from mvmnix.provenance.authenticate import Attested, authenticate_foreign
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.predicate import SBOM_NAME
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify import Verified, verify_provenance
from mvmnix.store import digest_of

_HINT = "name a directory of `mvm build --out`"
_FILES = ("kernel", "initrd", "rootfs")


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """An image whose provenance passed every step, over the bytes of all four files; `bundle` is the provenance's.

    `parts` are the bundles of kept parts, `rebuilds` those of other builds, where the policy asks for some; `attested`
    says who signed the provenance's bundle, and when that was witnessed.
    """

    image: Image
    provenance: Verified[Provenance]
    bundle: bytes
    parts: tuple[bytes, ...]
    rebuilds: tuple[bytes, ...]
    attested: Attested

    @property
    def statement(self) -> object:
        """The provenance as it was signed."""
        return strict.parse_json(envelope.parse(self.bundle).payload)


@dataclass(frozen=True, slots=True)
class Exported:
    """What lies in a directory of `mvm build --out`, besides the provenance: bytes and open files, all unverified."""

    manifest: bytes
    lock: bytes | None
    sbom: bytes | None
    parts: tuple[bytes, ...]
    files: OpenFiles
    rebuilds: tuple[bytes, ...] = ()


@contextmanager
def exported(directory: Path) -> Iterator[Exported]:
    """Read and open an image's directory; its files are closed at the end. Raises UsageError."""
    with ExitStack() as stack:
        described = files.read(str(directory / "manifest.json"), manifest.LIMIT, _HINT)
        lock, sbom, *listed = (
            files.read(str(directory / name), LIMIT, _HINT) if os.path.lexists(directory / name) else None
            for name in (LOCK, SBOM_NAME, PARTS, REBUILDS)
        )
        parts, rebuilds = (() if lines is None else tuple(lines.split(b"\n")) for lines in listed)
        fds = [stack.enter_context(files.regular(str(directory / name), _HINT)) for name in _FILES]
        yield Exported(described, lock, sbom, parts, OpenFiles(*fds), rebuilds)


def verify_image(
    policy: TrustPolicy, directory: Path, bundle: str = "", plan: str = "", *, moment: datetime | None = None
) -> VerifiedImage:
    """Take an image, and a plan if one is named, through every step; as of `moment`, by default now.

    Raises RefusedError, and UsageError or UnreadableError for what can't be read.
    """
    moment = moment or now()
    data = bundles.canonical(bundle) if bundle else bundles.canonical_in(str(directory / BUNDLE))
    with exported(directory) as it:
        if plan:
            verify_plan(
                plan=bundles.canonical_plan(plan),
                provenance=data,
                manifest=it.manifest,
                lock=it.lock,
                files=it.files,
                policy=policy,
                now=moment,
                parts=it.parts,
                rebuilds=it.rebuilds,
            ).close()
        image = manifest.parse(it.manifest)
        fds = zip(_FILES, (it.files.kernel, it.files.initrd, it.files.rootfs), strict=True)
        artifacts = (*(Artifact(name, *digest_of(fd)) for name, fd in fds), image.manifest)
        evidence = verify_provenance(
            data,
            policy=policy,
            artifacts=artifacts,
            lock=it.lock,
            image=image,
            now=moment,
            parts=it.parts,
            sbom=it.sbom,
            rebuilds=it.rebuilds,
        )
        asked = it.rebuilds if policy.thresholds.rebuilds > 1 else ()
        signed = authenticate_foreign(data, trust=policy.trust, role=Role.BUILDER, what="the provenance")
        return VerifiedImage(image, evidence, data, it.parts, asked, signed)
