"""Images, templates, plans, verdicts, the audit log: operations for programs, which may block, and what they return."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mvmnix.api.audit_check import check_own_log, read_events
from mvmnix.api.context import Context
from mvmnix.api.files import exists
from mvmnix.api.image_builder import open_image_builder
from mvmnix.api.images import export_image, find_images, list_images
from mvmnix.api.launch import StartOptions, save_machine
from mvmnix.api.plans import add_signature, draft_plan, refuse_early
from mvmnix.api.source_refs import existing_source_ref
from mvmnix.api.templates import MachineShape, list_templates, prepare_template, remove_templates
from mvmnix.api.verify.artifacts import ArtifactVerdict, FailedArtifact, verify_artifacts
from mvmnix.api.verify.image import verify_image
from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.audit.reading import SealedRecord
from mvmnix.errors import UsageError
from mvmnix.images.store import VerifiedImage
from mvmnix.launch.control.drivers import Steps
from mvmnix.launch.templates.store import KeptTemplate
from mvmnix.machines.retention import Retention
from mvmnix.plan.fields import LEAST_MIB, MOST_MIB, MOST_VCPUS
from mvmnix.plan.plan import Plan, plan_statement
from mvmnix.plan.share import MOST_SHARES
from mvmnix.provenance.verify.artifact_verifier import signer_of
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.sdk.arguments import between
from mvmnix.sdk.drive import WorkerStack, work
from mvmnix.sdk.errors import Cause, Error, InvalidArgument, NotFound
from mvmnix.sdk.preparation import ImageFacts, SandboxOptions, Source, open_state, plan_terms, source_of
from mvmnix.sdk.results import Template
from mvmnix.system.output_files import NewDirectory, NewFile
from mvmnix.words import Words


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about a file: whether a signer whom the caller trusts signed for it, or why not."""

    file: str
    digest: str
    is_verified: bool
    signers: tuple[str, ...] = ()
    reasons: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditReport:
    """This host's audit log, every record of which was verified against its seal."""

    records: int
    root: str
    """Digest of the log's Merkle tree."""
    unsealed_bytes: int
    """Bytes at its end that no seal covers: a writer was interrupted."""
    lost: tuple[int, ...]
    """Indices of starts without an end, whose machines don't run."""
    missing: tuple[str, ...]
    """What isn't kept any more of machines that ended."""


def facts_of(image: VerifiedImage) -> ImageFacts:
    """Return what is known of an image that verifies."""
    return ImageFacts(image.image.name, str(image.image.manifest.digest), image.provenance.level)


def build(source: str | os.PathLike[str], *, again: bool, out: str | os.PathLike[str] | None) -> ImageFacts:
    """Build a flake's image, or find it finished; export it where a new directory is named."""
    with ExitStack() as stack:
        context = open_state(stack)
        stack.enter_context(context.working())
        wanted = existing_source_ref(os.fspath(source))
        with open_image_builder(context) as images:
            finished = images.new_image(wanted) if again else images.image(wanted)
        if out is not None:
            export_image(context, finished, NewDirectory(os.fspath(out)))
        return facts_of(finished)


def find(name: str) -> tuple[ImageFacts, ...]:
    """Return the kept images of this name or digest, each of them verified. Raises NotFound."""
    with ExitStack() as stack:
        context = open_state(stack)
        try:
            _, seen = find_images(context, name)
        except UsageError as error:
            raise NotFound(error.message, hint=error.hint) from error
        return tuple(facts_of(image.finished) for image in seen if image.finished is not None)


def list_kept() -> tuple[ImageFacts, ...]:
    """Return the kept images that verify, by every byte."""
    with ExitStack() as stack:
        _, seen = list_images(open_state(stack))
        return tuple(facts_of(image.finished) for image in seen if image.finished is not None)


def warm(source: Source, shape: MachineShape, *, private: bool) -> Steps[Template]:
    """Make a template of a flake or a kept image, built first where need be; return it.

    Raises InvalidArgument for a shape that no machine has, Error where it is larger than all templates may be.
    """
    between(shape.vcpus, "vcpus", 1, MOST_VCPUS)
    between(shape.memory_mib, "memory_mib", LEAST_MIB, MOST_MIB)
    between(shape.shares, "shares", 0, MOST_SHARES)
    opened = WorkerStack()

    def prepare(stack: ExitStack) -> tuple[Context, bytes]:
        context = open_state(stack)
        return context, prepare_template(context, source_of(source, context), shape, stack)

    try:
        context, bundle = yield from work(partial(opened.run, prepare))
        ended = yield from save_machine(context, bundle, StartOptions(retention=Retention.LAST, private=private))
        kept = yield from work(list_kept_templates)
    finally:
        opened.close()
    made = next((each for each in kept if each.machine == ended.machine), None)
    if made is None:
        raise Error("the template was removed at once: a newer one took its place, or there was no room for it")
    return made


def list_kept_templates() -> tuple[Template, ...]:
    """Return the templates that are of use, the last used one first; others are removed."""
    with ExitStack() as stack:
        return tuple(map(_template, list_templates(open_state(stack))))


def remove_kept_templates(names: Words) -> tuple[str, ...]:
    """Remove templates by names of images, or keys or their beginnings; return their keys. Raises NotFound."""
    with ExitStack() as stack:
        context = open_state(stack)
        try:
            return tuple(map(str, remove_templates(context, names)))
        except UsageError as error:
            raise NotFound(error.message, hint=error.hint) from error


def _template(kept: KeptTemplate) -> Template:
    record = kept.record
    shape = (record.vcpus, record.memory_mib, record.network, record.images, record.data)
    return Template(str(record.key), record.image, *shape, record.machine, record.made, kept.size)


def verify_directory(directory: str | os.PathLike[str], bundle: str) -> ImageFacts:
    """Take an exported image through every step of a launch, under this user's policy. Raises NotVerified."""
    with ExitStack() as stack:
        return facts_of(verify_image(open_state(stack).policy, Path(directory), bundle))


def draft(source: Source, options: SandboxOptions, hours: float | None, *, single_use: bool) -> Plan:
    """Draft a plan for an image that is found or built; it grants the verbs that are named, and no other."""
    wanted = plan_terms(options, hours, single_use=single_use)
    with ExitStack() as stack:
        context = open_state(stack)
        refuse_early(context, wanted)
        stack.enter_context(context.working())
        with open_image_builder(context) as images:
            return draft_plan(context, images.image(source_of(source)), wanted)


def sign(plan: Plan, out: str | os.PathLike[str] | None) -> bytes:
    """Sign a plan with this user's key, or keyless where config.toml says so; write it where a new file is named."""
    with ExitStack() as stack:
        context = open_state(stack)
        bundle = add_signature(context, plan_statement(plan).to_bytes(), "the plan")
        if out is not None:
            NewFile(os.fspath(out)).write(bundle)
        return bundle


def verify(
    files: Sequence[str | os.PathLike[str]], bundle: str, trust: TrustChoice, wanted: Requirements
) -> tuple[Verdict, ...]:
    """Return a verdict for each file. Raises InvalidArgument for trust in no one."""
    names = [os.fspath(file) for file in files]
    for name in names:
        if ":" not in name and not exists(name):
            raise InvalidArgument(f"{name}: there is no such file", hint='a file, or "sha256:DIGEST"')
    criteria, _ = trust.criteria(wanted)
    return tuple(_verdict(each) for each in verify_artifacts(names, bundle, criteria))


def _verdict(found: ArtifactVerdict) -> Verdict:
    if isinstance(found, FailedArtifact):
        reasons = tuple(Cause(each.code, each.what, each.why, each.hint) for each in found.refused.reasons)
        return Verdict(found.name, str(found.blob), is_verified=False, reasons=reasons)
    signers = tuple(dict.fromkeys(signer_of(each.attested) for each in found.counted))
    return Verdict(found.name, str(found.blob), is_verified=True, signers=signers)


def check_audit() -> AuditReport:
    """Verify every record of this host's audit log. Raises NotVerified."""
    with ExitStack() as stack:
        context = open_state(stack)
        own = check_own_log(context, context.log_key, None)
        checkpoint, lost = own.evidence.checkpoint, tuple(each.index for each in own.lost)
        return AuditReport(checkpoint.size, str(checkpoint.root), own.evidence.tail, lost, own.missing)


def audit_events(machine: str, last: int | None) -> tuple[SealedRecord, ...]:
    """Return the log's last verified records, of all machines or of one."""
    with ExitStack() as stack:
        return tuple(read_events(open_state(stack), machine, last=last, follow=False))
