"""Reads what the evidence of an image, plan or machine consists of; trusts nothing, and changes nothing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from mvmnix.api import Context, hold_log, submit_kept
from mvmnix.audit.reading import SealedRecord, records_backwards
from mvmnix.audit.record import RecordKind
from mvmnix.audit.verify import verify_log
from mvmnix.errors import MvmnixError, Reason, RefusedError
from mvmnix.evidence.machine_nodes import Sealed, StoredMachine
from mvmnix.evidence.plan_nodes import Gate
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import ImageStore, IndexEntry
from mvmnix.launch.gate import verify as gates
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.launch.machines.machine_dir import PLAN, RECEIPT, read_kept
from mvmnix.launch.machines.registry import MachineEntry as Machine
from mvmnix.launch.vmm.boot_files import verity_reasons
from mvmnix.model import Artifact, Digest, Image
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.envelope import parse_bundle
from mvmnix.provenance.slsa.predicate import read_provenance
from mvmnix.provenance.verify.authentication import only_refusals
from mvmnix.store import digest_of


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
        entry,
        _document(entry.manifest, library.manifest),
        _document(entry.bundle, library.bundle),
        None if entry.lock is None else _document(entry.lock, library.lock),
        None if entry.sbom is None else _document(entry.sbom, library.sbom),
        tuple(_document(digest, library.bundle) for digest in entry.parts),
    )
    image = documents.image
    if isinstance(image, MvmnixError):
        return documents
    files = {it.name: _hashed(library, it) for it in (image.kernel, image.initrd, image.rootfs)}
    return replace(documents, files=files, verity=_verity(library, image))


def _document(digest: Digest, read: Callable[[Digest], bytes]) -> StoredDocument:
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
        return Artifact(artifact.name, *digest_of(fd))
    finally:
        os.close(fd)


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


def gate(context: Context, entry: IndexEntry) -> Gate:
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
    """A machine with its records and its receipt."""
    return StoredMachine(machine, _sealed(context, machine), _kept_by(context, machine, RECEIPT))


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


def _sealed(context: Context, machine: Machine) -> Sealed | MvmnixError:
    try:
        hold_log(context)
        key = context.log_key
        evidence = verify_log(context.audit, key)
        records = tuple(_records(records_backwards(context.audit, key), machine))
    except MvmnixError as error:
        return error
    return Sealed(evidence.checkpoint, key, tuple(reversed(records)), evidence.tail)


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
