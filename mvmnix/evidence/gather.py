"""Gathers what is kept of a build, a plan or a machine, or is in an exported image: bytes, hashes, records."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mvmnix.api import Context, files, hold_log, submit_kept
from mvmnix.api.verify.image import open_exported
from mvmnix.audit.reading import SealedRecord, records_backwards
from mvmnix.audit.record import RecordKind
from mvmnix.audit.verify import verify_log
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, Reason, RefusedError
from mvmnix.evidence.build import RebuildEvidence
from mvmnix.evidence.machine_nodes import MachineRecords, StoredMachine
from mvmnix.evidence.plan_nodes import Gate
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, ImageStore, IndexEntry, VerifiedImage
from mvmnix.launch.gate import verify as gates
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.machines.machine_dir import PLAN, RECEIPT, read_kept
from mvmnix.machines.receipt_check import kept_files
from mvmnix.machines.registry import MachineEntry as Machine
from mvmnix.model import Artifact, Image
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.envelope import parse_bundle
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.predicate import read_provenance
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import only_refusals
from mvmnix.provenance.verify.verify import Verified, verify_alone
from mvmnix.system.store import hash_file
from mvmnix.vmm.boot_files import verity_reasons


def stored_build(context: Context, entry: IndexEntry) -> StoredBuild:
    """A kept build with every file of it hashed, and the build of its builder's image, if that is kept as well."""
    library, rebuilds = context.library, RebuildStore(context.roots.state)
    found = _stored_build(library, entry)
    return with_builder(context, replace(found, rebuilds=rebuilds.bundles(entry.manifest)))


def with_builder(context: Context, found: StoredBuild) -> StoredBuild:
    """The same with the build of its builder's image, if that is kept here."""
    builder = _builder_of(context.library, found)
    return found if builder is None else replace(found, builder=_stored_build(context.library, builder))


def _stored_build(library: ImageStore, entry: IndexEntry) -> StoredBuild:
    documents = StoredBuild(
        _stored_document(entry.manifest, library.manifest),
        _stored_document(entry.bundle, library.bundle),
        None if entry.lock is None else _stored_document(entry.lock, library.lock),
        None if entry.sbom is None else _stored_document(entry.sbom, library.sbom),
        tuple(_stored_document(digest, library.bundle) for digest in entry.parts),
    )
    image = documents.image
    if isinstance(image, MvmnixError):
        return documents
    files = {it.name: _hashed(library, it) for it in (image.kernel, image.initrd, image.rootfs)}
    return replace(documents, files=files, verity=_verity(library, image))


def _stored_document(digest: Digest, read: Callable[[Digest], bytes]) -> StoredDocument:
    try:
        return StoredDocument(digest, read(digest))
    except MvmnixError as error:
        return StoredDocument(digest, error)


def _hashed(library: ImageStore, artifact: Artifact) -> Artifact | MvmnixError:
    try:
        fd = library.images.unhashed(artifact.digest)
    except MvmnixError as error:
        return error
    try:
        return _measured(fd, artifact)
    finally:
        os.close(fd)


def _measured(fd: int, artifact: Artifact) -> Artifact | MvmnixError:
    try:
        return hash_file(fd, artifact)
    except RefusedError as error:
        return error


def _verity(library: ImageStore, image: Image) -> tuple[Reason, ...] | MvmnixError:
    try:
        fd = library.images.unhashed(image.rootfs.digest)
    except MvmnixError as error:
        return error
    try:
        return tuple(verity_reasons(fd, image.verity))
    finally:
        os.close(fd)


def _builder_of(library: ImageStore, found: StoredBuild) -> IndexEntry | None:
    """Where to look for the builder's image, by what an unverified claim says; what is found is verified by itself."""
    if found.bundle.data is None:
        return None
    try:
        with only_refusals("the provenance"):
            claim = read_provenance(statement.parse(parse_bundle(found.bundle.data).payload))
    except RefusedError:
        return None
    wanted = {subject.digest for subject in claim.builder_image if subject.name == "manifest.json"}
    return next((entry for entry in library.entries() if entry.manifest in wanted), None)


def gate_of(context: Context, entry: IndexEntry) -> Gate:
    """The whole gate for a plan for this kept build, without a record of it: nothing is admitted, nothing starts."""

    def passes(plan: gates.SignedPlan, moment: datetime) -> MvmnixError | None:
        try:
            with submit_kept(context, plan, context.library.read(entry)) as submission:
                gates.verify_plan(submission, policy=context.policy, now=moment).close()
        except MvmnixError as error:
            return error
        return None

    return passes


def plan_of_machine(context: Context, machine: Machine) -> bytes | MvmnixError | None:
    """The bundle of the plan that a machine was started from; None for machines of before it was kept."""
    return _kept_by(context, machine, PLAN)


def stored_machine(context: Context, machine: Machine) -> StoredMachine:
    """A machine with its records, its receipt and the files that this names."""
    receipt = _kept_by(context, machine, RECEIPT)
    return StoredMachine(machine, _sealed(context, machine), receipt, _files(context, machine))


def _files(context: Context, machine: Machine) -> Mapping[str, Digest] | MvmnixError:
    try:
        with context.machines.existing(machine.status.machine) as directory:
            return kept_files(directory)
    except MvmnixError as error:
        return error


def _kept_by(context: Context, machine: Machine, name: str) -> bytes | MvmnixError | None:
    try:
        return read_kept(context.machines, machine.status.machine, name)
    except MvmnixError as error:
        return error


def clock_doubt(context: Context) -> MvmnixError | None:
    """Why the clock can't be relied on, if it is known to have gone back."""
    try:
        with looked_at(context.nonces):
            HostClock(context.nonces, lambda _: None).look()
    except MvmnixError as error:
        return error
    return None


def _sealed(context: Context, machine: Machine) -> MachineRecords | MvmnixError:
    try:
        hold_log(context)
        key = context.log_key
        evidence = verify_log(context.audit, key)
        records = tuple(_records(records_backwards(context.audit, key), machine))
    except MvmnixError as error:
        return error
    return MachineRecords(evidence.checkpoint, key, tuple(reversed(records)), evidence.tail)


def _records(listed: Iterator[SealedRecord], machine: Machine) -> Iterator[SealedRecord]:
    """The machine's own records, from the last back to the admission before its start."""
    started = False
    for each in listed:
        if each.record.machine == machine.status.machine:
            started = started or each.record.kind is RecordKind.START
            yield each
        elif started and each.record.kind is RecordKind.ADMISSION and each.record.plan == machine.status.plan:
            yield each
            return


#: The file that makes a directory one of an image.
MANIFEST: Final = "manifest.json"
_HINT: Final = "name a directory of `mvm build --out`"


def exported_build(directory: Path) -> StoredBuild:
    """An exported build, every file of it hashed. Raises UsageError for a file that is missing or is none."""
    bundle = _document(_canonical(files.read(str(directory / BUNDLE_NAME), STATEMENT_LIMIT, _HINT)))
    with open_exported(directory) as (it, opened):
        manifest, parts = _document(it.manifest), tuple(map(_document, it.parts))
        lock, sbom = (None if data is None else _document(data) for data in (it.lock, it.sbom))
        fds = {"kernel": opened.kernel, "initrd": opened.initrd, "rootfs": opened.rootfs}
        stored = StoredBuild(manifest, bundle, lock, sbom, parts, {}, rebuilds=it.rebuilds)
        image = stored.image
        if isinstance(image, MvmnixError):
            return replace(stored, files=dict.fromkeys(fds, image))
        hashed = {it.name: _measured(fds[it.name], it) for it in (image.kernel, image.initrd, image.rootfs)}
        return replace(stored, files=hashed, verity=tuple(verity_reasons(opened.rootfs, image.verity)))


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
