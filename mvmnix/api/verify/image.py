"""Verifies an exported image, and a plan for it, under a trust policy, by all steps that a launch takes and more."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from mvmnix.api import files, held_files
from mvmnix.api.files import file_bytes
from mvmnix.api.verify.artifacts import LIMIT
from mvmnix.clock import now
from mvmnix.errors import RefusedError, UsageError
from mvmnix.formats import manifest
from mvmnix.images.file_names import BUNDLE_NAME, LOCK_NAME, PARTS_NAME, REBUILDS_NAME, bundles_of
from mvmnix.images.store import STATEMENT_LIMIT, VerifiedImage
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.predicate import SBOM_NAME
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.verify import Claimed, manifest_reasons, read_claim, verify_claim
from mvmnix.system.store import hash_file, size_reasons
from mvmnix.vmm.boot_files import OpenFiles

_HINT = "name a directory of `mvm build --out`"
_FILES = ("kernel", "initrd", "rootfs")


@contextmanager
def open_exported(directory: Path, provenance: bytes = b"") -> Iterator[tuple[ImageEvidence, OpenFiles]]:
    """Read and open a directory of `mvm build --out`, nothing of it verified; its files are closed at the end.

    `provenance` is the bundle to verify it by, b"" while there is none. Raises UsageError.
    """
    with ExitStack() as stack:
        described = files.read(str(directory / "manifest.json"), manifest.LIMIT, _HINT)
        lock, sbom, *listed = (
            files.read(str(directory / name), STATEMENT_LIMIT, _HINT) if _is_there(directory / name) else None
            for name in (LOCK_NAME, SBOM_NAME, PARTS_NAME, REBUILDS_NAME)
        )
        parts, rebuilds = (
            () if lines is None else _bundles(str(directory / name), lines)
            for name, lines in zip((PARTS_NAME, REBUILDS_NAME), listed, strict=True)
        )
        fds = [stack.enter_context(files.regular(str(directory / name), _HINT)) for name in _FILES]
        evidence = ImageEvidence(
            manifest=described, provenance=provenance, lock=lock, sbom=sbom, parts=parts, rebuilds=rebuilds
        )
        yield evidence, OpenFiles(*fds)


def _is_there(path: Path) -> bool:
    return files.exists(str(path)) or (not held_files.is_handed(str(path.parent)) and os.path.lexists(path))


def _bundles(path: str, lines: bytes) -> tuple[bytes, ...]:
    try:
        return bundles_of(lines)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint="have the image exported again, by `mvm build --out`") from error


def read_image_claim(policy: TrustPolicy, directory: Path, bundle: str = "") -> Claimed:
    """What the provenance of an image in a directory says, from there or from a bundle that is named.

    Raises as `verify_image` does.
    """
    return read_claim(_canonical_bundle(bundle) if bundle else _canonical_in(str(directory / BUNDLE_NAME)), policy)


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
    with open_exported(directory, claimed.data) as (handed_in, opened):
        if plan:
            from mvmnix.launch.gate.verify import Submission, verify_plan  # noqa: PLC0415 - files of any build don't pay for it

            submission = Submission(_canonical_plan(plan), handed_in, opened)
            verify_plan(submission, policy=policy, now=moment).close()
        image = manifest.parse(handed_in.manifest)
        files_of = ((opened.kernel, image.kernel), (opened.initrd, image.initrd), (opened.rootfs, image.rootfs))
        # what provenance and manifest say of the files, before anything of these is read
        reasons = [*manifest_reasons(claimed, image), *(it for pair in files_of for it in size_reasons(*pair))]
        if reasons:
            raise RefusedError(*reasons, steps=claimed.steps)
        artifacts = (*(hash_file(*pair) for pair in files_of), image.manifest)
        verified = verify_claim(claimed, handed_in, artifacts=artifacts, image=image, now=moment)
        return VerifiedImage(image, handed_in, verified)


def _canonical_bundle(path: str) -> bytes:
    """A bundle as mvm would have written it: here, and not at a launch, one in another formatting is taken too."""
    return envelope.parse_bundle(file_bytes(path, LIMIT)).to_bytes()


def _canonical_in(path: str) -> bytes:
    """The same for a bundle in an image's directory, which has to be a regular file."""
    return envelope.parse_bundle(files.read(path, LIMIT, _HINT)).to_bytes()


def _canonical_plan(path: str) -> bytes:
    """A plan's bundle in the same way; several of them, one a line, only as mvm wrote them."""
    from mvmnix.launch.gate import signatures  # noqa: PLC0415 - what is about no plan doesn't pay for it

    data = file_bytes(path, LIMIT)
    signatures.refuse_unsigned(data)
    return data if b"\n{" in data and data.startswith(b'{"dsseEnvelope"') else envelope.parse_bundle(data).to_bytes()
