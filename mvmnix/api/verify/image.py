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
from mvmnix.images import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME, STATEMENT_LIMIT
from mvmnix.launch.gate import verify_plan
from mvmnix.launch.runtime import now
from mvmnix.launch.vmm import OpenFiles
from mvmnix.model import Artifact, Image
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import SBOM_NAME, Provenance
from mvmnix.provenance.verify import Claimed, Verified, read_claim, verify_claim
from mvmnix.store import digest_of

_HINT = "name a directory of `mvm build --out`"
_FILES = ("kernel", "initrd", "rootfs")


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """An image whose provenance passed every step, over the bytes of all four files; `bundle` is the provenance's.

    `parts` are the bundles of kept parts, `rebuilds` those of other builds, where the policy asks for some.
    """

    image: Image
    provenance: Verified[Provenance]
    bundle: bytes
    parts: tuple[bytes, ...]
    rebuilds: tuple[bytes, ...]

    @property
    def statement(self) -> object:
        """The provenance as it was signed."""
        return strict.parse_json(envelope.parse_bundle(self.bundle).payload)


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
def open_exported(directory: Path) -> Iterator[Exported]:
    """Read and open an image's directory; its files are closed at the end. Raises UsageError."""
    with ExitStack() as stack:
        described = files.read(str(directory / "manifest.json"), manifest.LIMIT, _HINT)
        lock, sbom, *listed = (
            files.read(str(directory / name), STATEMENT_LIMIT, _HINT) if os.path.lexists(directory / name) else None
            for name in (LOCK_NAME, SBOM_NAME, PARTS_NAME, REBUILDS_NAME)
        )
        parts, rebuilds = (() if lines is None else tuple(lines.split(b"\n")) for lines in listed)
        fds = [stack.enter_context(files.regular(str(directory / name), _HINT)) for name in _FILES]
        yield Exported(described, lock, sbom, parts, OpenFiles(*fds), rebuilds)


def read_image_claim(policy: TrustPolicy, directory: Path, bundle: str = "") -> Claimed:
    """What the provenance of an image in a directory says, from there or from a bundle that is named.

    Raises as `verify_image` does.
    """
    return read_claim(
        bundles.canonical(bundle) if bundle else bundles.canonical_in(str(directory / BUNDLE_NAME)), policy
    )


def verify_image(
    policy: TrustPolicy,
    directory: Path,
    bundle: str = "",
    plan: str = "",
    *,
    moment: datetime | None = None,
    claimed: Claimed | None = None,
) -> VerifiedImage:
    """Take an image, and a plan if one is named, through every step; as of `moment`, by default now.

    `claimed` is what its provenance says, where that was read under this policy. Raises RefusedError, and UsageError or
    UnreadableError for what can't be read.
    """
    moment = moment or now()
    claimed = claimed or read_image_claim(policy, directory, bundle)
    if claimed.policy != policy:
        raise ValueError("the provenance was read under another policy")
    with open_exported(directory) as it:
        if plan:
            _verify_plan(bundles.canonical_plan(plan), it, claimed, moment)
        image = manifest.parse(it.manifest)
        fds = zip(_FILES, (it.files.kernel, it.files.initrd, it.files.rootfs), strict=True)
        artifacts = (*(Artifact(name, *digest_of(fd)) for name, fd in fds), image.manifest)
        evidence = verify_claim(
            claimed,
            artifacts=artifacts,
            lock=it.lock,
            image=image,
            now=moment,
            parts=it.parts,
            sbom=it.sbom,
            rebuilds=it.rebuilds,
        )
        asked = it.rebuilds if policy.thresholds.rebuilds > 1 else ()
        return VerifiedImage(image, evidence, claimed.data, it.parts, asked)


def _verify_plan(plan: bytes, it: Exported, claimed: Claimed, moment: datetime) -> None:
    """Take a plan for the image through the whole gate. Raises RefusedError."""
    verify_plan(
        plan=plan,
        provenance=claimed.data,
        manifest=it.manifest,
        lock=it.lock,
        files=it.files,
        policy=claimed.policy,
        now=moment,
        parts=it.parts,
        rebuilds=it.rebuilds,
    ).close()
