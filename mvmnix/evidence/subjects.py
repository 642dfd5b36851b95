"""Finds what the user named, and builds the graph of its evidence from what is kept here."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from mvmnix.api import KEPT_SCHEME, Context, file_bytes, files, hold_log, latest_serials, open_replay, submit_kept
from mvmnix.api.verify.image import open_exported
from mvmnix.audit.reading import SealedRecord, records_backwards
from mvmnix.audit.record import RecordKind
from mvmnix.audit.verify import verify_log
from mvmnix.errors import MvmnixError, Reason, ReasonCode, RefusedError, UsageError
from mvmnix.evidence.build import Judge, RebuildEvidence, add_build
from mvmnix.evidence.graph import Draft, Graph, Node, NodeStatus, Verdict, refused, verdict_of
from mvmnix.evidence.machine_nodes import Sealed, StoredMachine, add_machine
from mvmnix.evidence.plan_nodes import (
    CheckedPlan,
    Gate,
    PreviousUse,
    add_plan,
    check_plan,
    missing_image,
    missing_plan,
    undated_node,
    with_replay,
)
from mvmnix.evidence.stored_build import StoredBuild, StoredDocument
from mvmnix.evidence.trust import policy_node
from mvmnix.formats.strict import show_time
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.prune import SHORTEST, KeptImages
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, ImageStore, IndexEntry, VerifiedImage
from mvmnix.launch.gate import verify as gates
from mvmnix.launch.gate.clock import HostClock, looked_at
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import PLAN, RECEIPT, machine_ids, read_kept
from mvmnix.machines.registry import MachineEntry as Machine
from mvmnix.model import Artifact, Digest, Image
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.envelope import parse_bundle
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.predicate import read_provenance
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import only_refusals
from mvmnix.provenance.verify.verify import Verified, verify_alone
from mvmnix.suggestion import did_you_mean
from mvmnix.system.store import digest_of
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
        entry,
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


def graph_record(graph: Graph, moment: datetime) -> Mapping[str, object]:
    """The graph as it was verified at this moment; docs/show.md describes it."""
    return {
        "subject": graph.subject,
        "verdict": graph.standing,
        "verifiedOn": show_time(moment),
        "counts": {standing.value: graph.count(standing) for standing in NodeStatus},
        "nodes": [_node(node) for node in graph.nodes],
        "edges": [{"from": it.subject, "meaning": it.meaning.words, "to": it.object} for it in graph.edges],
    }


def _node(node: Node) -> Mapping[str, object]:
    return {
        "key": node.key,
        "kind": node.kind,
        "name": node.name,
        "digest": node.digest or None,
        "signer": node.signer or None,
        "verdict": _verdict(node.verdict),
        "facts": [{"name": name, "value": value} for name, value in node.facts],
        "members": [_node(member) for member in node.members],
    }


def _verdict(verdict: Verdict) -> Mapping[str, object]:
    reasons = [reason.record for reason in verdict.reasons]
    return {"standing": verdict.standing, "why": verdict.why or None, "reasons": reasons}


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


_PREFIX: Final = "sha256:"
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")

#: A plan's bytes, a machine, the kept builds of an image, or the directory of an exported one.
type Named = bytes | Machine | tuple[IndexEntry, ...] | Path


def find_subject(context: Context, text: str, notice: Callable[[str], None]) -> Named:
    """What a text names: a plan's file (`-`: stdin), a machine, an image. Raises UsageError for none and for two.

    Of several machines with one name it is the one that `registry.find` means; `notice` is told which that is.
    """
    if text == "-":
        return file_bytes(text, STATEMENT_LIMIT)
    if text.startswith((_PREFIX, KEPT_SCHEME)):
        return _entries(context, text.removeprefix(KEPT_SCHEME))
    meant = dict(_meant(context, text, notice))
    if not meant:
        near = did_you_mean(text, (it.status.name for it in registry.list_entries(context.machines)))
        hint = f"{near}`mvm images` lists images, `mvm ps --all` machines"
        raise UsageError(f"there is no plan, machine or image {text!r} here", hint=hint)
    if len(meant) > 1:
        hint = f"say ./{text} for the file or directory, {KEPT_SCHEME}{text} for the image, the machine by its whole id"
        raise UsageError(f"{text!r} is {' and '.join(meant)}", hint=hint)
    (take,) = meant.values()
    return take()


def _meant(context: Context, text: str, notice: Callable[[str], None]) -> Iterator[tuple[str, Callable[[], Named]]]:
    """All that a text could name, and how to get it."""
    path = Path(text)
    if text and path.is_file():
        yield "a file", lambda: file_bytes(text, STATEMENT_LIMIT)
    if text and (path / MANIFEST).is_file():
        yield "a directory", lambda: path
    names = {it.status.name for it in registry.list_entries(context.machines)}
    if text and (text in names or any(machine.startswith(text) for machine in machine_ids(context.machines))):
        yield "a machine", lambda: _machine_called(context, text, notice)
    digests = (entry.manifest.hex for entry in context.library.entries())
    is_digest = _BEGINNING.fullmatch(text) and any(digest.startswith(text) for digest in digests)
    if is_digest or text in KeptImages(context.library).names():
        yield "an image", lambda: _entries(context, text)


def _machine_called(context: Context, text: str, notice: Callable[[str], None]) -> Machine:
    found = registry.find_machine(context.machines, text)
    namesakes = sum(it.status.name == text for it in registry.list_entries(context.machines))
    if namesakes > 1:
        notice(f"{namesakes} machines are called {text}: shown is {found.status.machine}; name another by its id")
    return found


def _entries(context: Context, text: str) -> tuple[IndexEntry, ...]:
    return tuple(dict.fromkeys(entry for _, entry in KeptImages(context.library).find(text)))


def graph_of(context: Context, found: Named, now: datetime) -> Graph:
    """All evidence of it, verified at this moment. Raises RefusedError when there is no policy to verify it under."""
    rebuilds = RebuildStore(context.roots.state)
    policy = context.policy
    judge = Judge(policy, now, lambda first: rebuilds.each(first, policy=policy, now=now))
    draft = Draft()
    match found:
        case bytes():
            subject = _plan(draft, context, found, judge)
        case Path():
            subject = _export(draft, context, found, judge)
        case Machine():
            subject = _machine(draft, context, found, judge)
        case _:
            subject = _image(draft, context, found, judge)
    draft.add(policy_node(policy, now, latest_serials(context), clock_doubt(context)))
    return draft.done(subject)


def _image(draft: Draft, context: Context, entries: Iterable[IndexEntry], judge: Judge) -> str:
    subject = ""
    for number, entry in enumerate(entries):
        subject = add_build(draft, stored_build(context, entry), judge, at=f"{number + 1}/" if number else "")
    return subject


def _export(draft: Draft, context: Context, directory: Path, judge: Judge) -> str:
    stored = with_builder(context, exported_build(directory))
    rebuild_evidence = rebuild_evidence_of(stored, policy=judge.policy, now=judge.now)
    return add_build(draft, stored, Judge(judge.policy, judge.now, rebuild_evidence))


def _plan(draft: Draft, context: Context, bundle: bytes, judge: Judge) -> str:
    shown = check_plan(bundle, judge, None)
    if shown.plan is None:
        return add_plan(draft, Digest.of(bundle), shown, image="", provenance="")
    manifest = shown.plan.manifest
    entry = _find(context, manifest, shown.plan.provenance)
    if entry is None:
        image = missing_image(draft, shown.plan.image, manifest)
    else:
        image = add_build(draft, stored_build(context, entry), judge)
        shown = check_plan(bundle, judge, gate_of(context, entry))
    shown = with_replay(shown, open_replay(context, _silent).judge)
    return add_plan(draft, Digest.of(bundle), shown, image=image, provenance="provenance")


def _silent(_: str) -> None:
    """Prints nothing: the verdicts say it."""


def _machine(draft: Draft, context: Context, machine: Machine, judge: Judge) -> str:
    stored = stored_machine(context, machine)
    manifest, provenance = stored.build
    entry = _find(context, manifest, provenance)
    if entry is None:
        image = missing_image(draft, machine.status.image, manifest)
    else:
        image = add_build(draft, stored_build(context, entry), judge)
    bundle = plan_of_machine(context, machine)
    if bundle is None:
        missing_plan(draft, stored.plan)
    else:
        gate = None if entry is None else gate_of(context, entry)
        shown = _used(bundle, stored, judge, gate)
        add_plan(draft, stored.plan, shown, image=image, provenance="provenance")
    return add_machine(draft, stored, judge)


def _used(bundle: bytes | MvmnixError, stored: StoredMachine, judge: Judge, gate: Gate | None) -> CheckedPlan:
    """The plan that a machine keeps: of the digest that the log says, and verified as of its logged start."""
    if isinstance(bundle, MvmnixError):
        return CheckedPlan((), None, verdict_of(bundle))
    if (found := Digest.of(bundle)) != stored.plan:
        why, hint = f"the machine was started from {stored.plan}, its plan here is {found}", "it was changed"
        return CheckedPlan((), None, refused([Reason(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)]))
    if stored.start is None:
        return undated_node(check_plan(bundle, judge, gate))
    return check_plan(bundle, judge, gate, PreviousUse(stored.start.record.time))


def _find(context: Context, manifest: Digest | None, provenance: Digest | None) -> IndexEntry | None:
    return next((it for it in context.library.entries() if (it.manifest, it.bundle) == (manifest, provenance)), None)
