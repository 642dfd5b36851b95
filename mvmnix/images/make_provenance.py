"""Turns a build's record into the provenance that is signed: what was built, from what, by whom; pure."""

import secrets
from collections.abc import Iterable
from dataclasses import replace

from mvmnix.builder.session.build import BuildRecord
from mvmnix.builder.session.parts import PartsRecord
from mvmnix.errors import ReasonCode, refuse
from mvmnix.images.store import VerifiedImage
from mvmnix.provenance.slsa.parts import Parts
from mvmnix.provenance.slsa.provenance import (
    HOST_NIX,
    MICROVM,
    BuilderLimits,
    Provenance,
    RootTree,
    Versions,
    lock_account,
    subjects_of,
)

INVOCATION_BYTES = 16


def by_host_nix(record: BuildRecord, *, mvm: str) -> Provenance:
    """The provenance of a bootstrap build."""
    return _of_image(record, mvm=mvm, builder=None, limits=None)


def by_builder(record: BuildRecord, *, mvm: str, builder: VerifiedImage, limits: BuilderLimits) -> Provenance:
    """The provenance of a build in a VM that ran this builder image."""
    return _of_image(record, mvm=mvm, builder=builder, limits=limits)


def of_parts(record: PartsRecord, *, mvm: str, builder: VerifiedImage, limits: BuilderLimits) -> Parts:
    """What is signed of parts that were built in a VM that ran this builder image."""
    return Parts(record.built, _provenance(record, mvm=mvm, builder=builder, limits=limits))


def _of_image(
    record: BuildRecord, *, mvm: str, builder: VerifiedImage | None, limits: BuilderLimits | None
) -> Provenance:
    return replace(
        _provenance(record, mvm=mvm, builder=builder, limits=limits),
        derivation=record.derivation,
        from_derivation=record.from_derivation,
        variation=record.variation,
    )


def _provenance(
    record: BuildRecord | PartsRecord, *, mvm: str, builder: VerifiedImage | None, limits: BuilderLimits | None
) -> Provenance:
    """What holds of every session: from what, by whom, when."""
    flake, lock, given = record.request.flake, record.request.lock, record.given
    return Provenance(
        root=RootTree(flake.uri, flake.nar, flake.commit),
        directory=flake.directory,
        attribute=record.request.attribute,
        lock=lock.digest,
        nodes=lock_account(lock, given.touched),
        sources=given.sources,
        builder_id=HOST_NIX if builder is None else MICROVM,
        builder_image=() if builder is None else subjects_of(builder.image.artifacts),
        versions=Versions(mvm=mvm, nix=record.nix),
        limits=limits,
        invocation=secrets.token_hex(INVOCATION_BYTES),
        started=record.started,
        finished=record.finished,
        derivation=None,
        cached=given.cached,
        kept=given.kept,
    )


def check_sources(record: BuildRecord, parts: Iterable[Parts] = ()) -> None:
    """Every source that the manifest names came in, or into these parts, which were kept.

    Raises RefusedError: the builder lied, or the flake did.
    """
    inherited = (source for each in parts for source in each.provenance.sources)
    missing = set(record.image.sources) - {*record.given.sources, *inherited}
    if missing:
        why = f"the manifest names sources that never came in: {', '.join(sorted(s.name for s in missing))[:400]}"
        raise refuse(ReasonCode.DEPENDENCY_MISMATCH, "builder output", why, "build images with mkGuest alone")
