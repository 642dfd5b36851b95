"""Keeps what further builds of a kept image testify, beside what the first one does; nothing of it is trusted.

Under `rebuilds/`, a directory for each image by its manifest's digest has a bundle by its own digest for each rebuild.
A bundle counts after it was verified for that image, and speaks of the same build at another time:

1. its provenance verifies, for the four files, under the policy in force; no parts that were kept of earlier builds
   are handed in, so that a build that took some in does not verify;
2. it is of the same tree, directory, attribute and derivation as the first;
3. it has an invocation of its own, and where the same builder signed it, says what the machine was made to show
   otherwise.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.images.file_names import MOST_BUNDLES
from mvmnix.images.store import STATEMENT_LIMIT, VerifiedImage
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.verify import Verified, verify_alone
from mvmnix.system.private_dirs import Directory

_WHAT = "the provenance of a rebuild"


class RebuildStore:
    """The testimony of rebuilds; `state` is the state directory."""

    def __init__(self, state: Directory) -> None:
        self._state = state

    def keep(self, first: VerifiedImage, bundle: bytes, *, policy: TrustPolicy, now: datetime) -> Verified[Provenance]:
        """Keep a rebuild's bundle, once it verifies beside the first. Raises RefusedError."""
        verified = _verified(first, bundle, "", policy=policy, now=now)
        with self._state.child("rebuilds") as all_, all_.child(first.image.manifest.digest.hex) as here:
            here.write_atomic(verified.bundle.hex, bundle)
        return verified

    def each(
        self, first: VerifiedImage, *, policy: TrustPolicy, now: datetime
    ) -> Iterator[tuple[str, Verified[Provenance] | RefusedError]]:
        """What is kept of rebuilds of this image, each under the name of its file: verified, or why not.

        Raises as reading a file does.
        """
        for name in self._names(first):
            try:
                where, bundle = self._read(first, name)
                yield name, _verified(first, bundle, where, policy=policy, now=now)
            except RefusedError as refused:
                yield name, refused

    def forget(self, manifest: Digest) -> None:
        """Let go of what rebuilds of this image testified, for the image itself is gone."""
        with self._state.child("rebuilds") as all_, suppress(FileNotFoundError):
            all_.remove_tree(manifest.hex)

    def bundles(self, manifest: Digest) -> tuple[bytes, ...]:
        """What is kept for the image with this manifest, as it lies there, for a gate that verifies it."""
        with self._state.child("rebuilds") as all_:
            if not all_.exists(manifest.hex):
                return ()
            with all_.child(manifest.hex) as here:
                return tuple(here.read(name, STATEMENT_LIMIT) for name in here.names()[:MOST_BUNDLES])

    def _names(self, first: VerifiedImage) -> tuple[str, ...]:
        name = first.image.manifest.digest.hex
        with self._state.child("rebuilds") as all_:
            if not all_.exists(name):
                return ()
            with all_.child(name) as here:
                return here.names()

    def _read(self, first: VerifiedImage, name: str) -> tuple[str, bytes]:
        """A bundle by the name of its file, and where it lies. Raises RefusedError for other bytes than that says."""
        with self._state.child("rebuilds") as all_, all_.child(first.image.manifest.digest.hex) as here:
            data, where = here.read(name, STATEMENT_LIMIT), here.where(name)
        if Digest.of(data).hex != name:
            why = f"{where} has other bytes than its name says"
            raise refuse(ReasonCode.PROVENANCE_MISMATCH, _WHAT, why, f"remove {where}, and rebuild")
        return where, data


def _verified(
    first: VerifiedImage, bundle: bytes, where: str, *, policy: TrustPolicy, now: datetime
) -> Verified[Provenance]:
    """The numbered checks of this module's docstring."""
    evidence = first.evidence.of_rebuild(bundle)
    again = verify_alone(evidence, policy=policy, artifacts=first.image.artifacts, image=first.image, now=now)  # 1
    one, other = first.provenance.claim, again.claim
    if _subject(one) != _subject(other):  # 2
        why = f"it is of {other.root.uri}#{other.attribute} ({other.derivation}), the first of {one.derivation}"
    elif one.invocation == other.invocation or (other.variation is None and _alike(again, first)):  # 3
        why = "it is of a build like any other, and not of one that was made to see things otherwise"
    else:
        return again
    hint = f"remove {where}, and rebuild" if where else "mvm build --rebuild FLAKE"
    raise refuse(ReasonCode.PROVENANCE_MISMATCH, _WHAT, why, hint)


def _alike(again: Verified[Provenance], first: VerifiedImage) -> bool:
    return again.signer.fingerprint == first.provenance.signer.fingerprint


def _subject(claim: Provenance) -> tuple[object, ...]:
    return (claim.root.nar, claim.directory, claim.attribute, claim.lock, claim.derivation)
