"""Admits signed plans by the gate, and opens what a host gives machines; called in the process that starts them."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mvmnix.api import audit, files
from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.api.snapshot_store import open_snapshots
from mvmnix.api.verify.image import open_exported
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import STATEMENT_LIMIT, StoredImage
from mvmnix.keys import Role
from mvmnix.launch import backends
from mvmnix.launch.control.authorize import require_verb
from mvmnix.launch.gate.admission import admit
from mvmnix.launch.gate.checks import SummarizedImage
from mvmnix.launch.gate.clock import HostClock
from mvmnix.launch.gate.replay import LoggedStarts, Replay
from mvmnix.launch.gate.verify import SignedPlan, Submission, VerifiedPlan, read_plan
from mvmnix.launch.means import Means
from mvmnix.launch.runtime.accelerator import KvmProbe
from mvmnix.launch.runtime.creation import check_creation
from mvmnix.launch.runtime.creation import create_home as register
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.templates.sealing_key import read_or_make
from mvmnix.launch.templates.store import Templates
from mvmnix.launch.templates.template import NOTHING_HELD, Held
from mvmnix.machines.machine_dir import PLAN, read_kept
from mvmnix.machines.registry import MachineEntry, waiting_machine
from mvmnix.machines.retention import MachineKind, Retention, discard, mark, prune
from mvmnix.machines.status import MachineSource, MachineStatus
from mvmnix.model import Verb
from mvmnix.plan.backend import Backend
from mvmnix.plan.plan import Plan, check_terminal
from mvmnix.provenance.verify.summary import Summary
from mvmnix.sandbox import uid_pool
from mvmnix.system import log
from mvmnix.vmm.boot_files import OpenFiles
from mvmnix.vmm.jail.jail import BubblewrapJail


def admit_submission(context: Context, it: Submission, notice: Callable[[str], None]) -> VerifiedPlan:
    """Take what was handed in through the gate, at the time of a clock that may be relied on, under today's policy."""
    with context.recorded(plan=it.digest):
        moment = HostClock(context.nonces, notice).now()
        context.read_policy_again()
    if isinstance(it.plan, SignedPlan) and it.plan.policy != context.policy:
        it = replace(it, plan=it.plan.data)
    log.info("gate", "verifying the plan %s", it.digest)
    return admit(it, policy=context.policy, journal=context.journal, clock=lambda: moment)


@contextmanager
def admit_kept(
    context: Context, plan: bytes | SignedPlan, kept: StoredImage, notice: Callable[[str], None]
) -> Iterator[VerifiedPlan]:
    """A plan for a kept build, through the gate; its files are closed at the end.

    What is odd about the clock is told by `notice`.
    """
    with submit_kept(context, plan, kept) as submission:
        verified = admit_submission(context, submission, notice)
    with verified:
        yield verified


@contextmanager
def submit_kept(context: Context, plan: bytes | SignedPlan, kept: StoredImage) -> Iterator[Submission]:
    """What is handed in for a plan for a kept build: its evidence, and its files, which are closed at the end."""
    images = context.library.images
    fds: list[int] = []
    try:
        for artifact in (kept.image.kernel, kept.image.initrd, kept.image.rootfs):
            fds.append(images.unhashed(artifact.digest))  # noqa: PERF401 - each is to be closed if the next fails
        yield Submission(plan, replace(kept.evidence, rebuilds=_rebuilds(context, kept)), OpenFiles(*fds))
    finally:
        for fd in fds:
            os.close(fd)


def _rebuilds(context: Context, kept: StoredImage) -> tuple[bytes, ...]:
    """What other builders testified, where the policy asks for any."""
    if context.policy.thresholds.rebuilds == 1:
        return ()
    return RebuildStore(context.roots.state).bundles(kept.image.manifest.digest)


def open_replay(context: Context, notice: Callable[[str], None]) -> Replay:
    """What was started here; what is odd about the clock is told by `notice`."""
    return Replay(
        context.nonces,
        clock=HostClock(context.nonces, notice),
        starts=LoggedStarts(context.audit, lambda: context.log_key),
        check_anchors=lambda: audit.check_anchors(lambda: context.journal, context.config.anchors),
    )


def refuse_terminal(context: Context, plan: VerifiedPlan) -> None:
    """Refuse, before anything starts, a plan whose command can't have a terminal.

    Raises RefusedError [verb-not-granted], which is logged; UsageError as `check_terminal` does.
    """
    check_terminal(plan.plan.backend, plan.plan.secrets)
    with context.recorded(plan=plan.digest):
        require_verb(plan.plan, Verb.SHELL)


def open_jail(context: Context) -> BubblewrapJail:
    """Where hypervisors run, with a pool of uids where this process can give some away.

    Raises MvmnixError for a root that can't give uids away, RefusedError [state-permissions].
    """
    pool = uid_pool.open_pool(context.roots.state)
    context.keep(pool.directory)
    return BubblewrapJail(pool, context.roots.cache)


def open_templates(context: Context, held: Held = NOTHING_HELD) -> Templates:
    """The templates that are kept here, under the policy in force."""
    directory = context.keep(context.roots.state.child("templates"))
    policy, key = context.policy, partial(read_or_make, context.keys)
    return Templates(directory, key, policy.state, held, are_allowed=policy.warm_starts)


def open_host(
    context: Context,
    notice: Callable[[str], None],
    means: Means,
    backend: Backend = Backend.QEMU,
    held: Held = NOTHING_HELD,
) -> Host:
    """What machines are given. Raises MvmnixError when there is no usable hypervisor, as `backends.find` does."""
    hypervisor, jail = backends.find(backend), open_jail(context)
    host = Host(
        hypervisor=hypervisor,
        jail=jail,
        kvm=KvmProbe(hypervisor, jail, context.roots.cache),
        journal=context.journal,
        sign=partial(context.sign, Role.HOST),
        machines=context.machines,
        replay=open_replay(context, notice),
        notice=notice,
        means=means,
        templates=open_templates(context, held),
        snapshots=open_snapshots(context),
        own=tuple(context.roots.paths.values()),
    )
    context.at_end(host.loop.close)
    return host


@contextmanager
def admit_plan(context: Context, bundle: bytes, image: str = "", vsa: str = "") -> Iterator[VerifiedPlan]:
    """The plan of a bundle, verified and logged; its files are closed at the end.

    Its image is kept here, or is in the directory `image`, with the summary in the file `vsa` in place of its evidence
    where one is named. Raises RefusedError, once it is in the log; UsageError for a summary without a directory.
    """
    if vsa and not image:
        raise UsageError("--vsa goes with --image", hint="name the directory with the image's files")
    with ExitStack() as stack:
        if image:
            with _handed_in(bundle, Path(image), vsa) as submission:
                verified = stack.enter_context(admit_submission(context, submission, context.frontend.notice))
        else:
            verified = stack.enter_context(_kept(context, bundle))
        yield verified


def host_for(context: Context, plan: VerifiedPlan, means: Means, held: Held = NOTHING_HELD) -> Host:
    """What a machine on the plan's backend is given. A refusal [backend-unavailable] is in the audit log."""
    with context.recorded(plan=plan.digest):
        return open_host(context, context.frontend.notice, means, plan.plan.backend, held)


@contextmanager
def retain(host: Host, retention: Retention, kind: MachineKind) -> Iterator[Callable[[str], None]]:
    """Yield a function that marks a machine, by its id, as ready; remove it, and others, at the end by `retention`.

    Machines that may go on from a snapshot stay.
    """
    if retention is Retention.ALWAYS:
        yield lambda _machine: None
        return
    ready: list[str] = []

    def mark_ready(machine: str) -> None:
        mark(host.machines, machine, kind)
        ready.append(machine)

    try:
        yield mark_ready
        for machine in ready if retention is Retention.NEVER else ():
            discard(host.machines, machine, partial(_spared, host), host.notice)
    finally:
        prune(host.machines, kind, partial(_spared, host), host.notice)


def _spared(host: Host, entries: Sequence[MachineEntry]) -> Collection[str]:
    from mvmnix.api.cold_machines import find_spared  # noqa: PLC0415 - an end that removes none doesn't pay for it

    return find_spared(host.machines, entries, host.snapshots)


@contextmanager
def _kept(context: Context, bundle: bytes) -> Iterator[VerifiedPlan]:
    """The plan for an image that is kept here."""
    with submit_for(context, bundle) as submission:
        verified = admit_submission(context, submission, context.frontend.notice)
    with verified:
        yield verified


@contextmanager
def submit_for(context: Context, bundle: bytes) -> Iterator[Submission]:
    """What is handed in for a plan for an image that is kept here, and can't be removed until its files are open."""
    with context.working():
        with context.recorded(plan=Digest.of(bundle)):
            signed = read_plan(bundle, context.policy)
            kept = _image_of(context, signed.plan)
        with submit_kept(context, signed, kept) as submission:
            yield submission


@contextmanager
def _handed_in(bundle: bytes, directory: Path, vsa: str) -> Iterator[Submission]:
    """What is verified for an image in a directory: all of its evidence, or a verifier's summary."""
    with open_exported(directory) as (evidence, opened):
        if vsa:
            summary = Summary(file_bytes(vsa, STATEMENT_LIMIT))
            yield Submission(bundle, SummarizedImage(evidence.manifest, summary), opened)
        else:
            provenance = files.read(
                str(directory / BUNDLE_NAME), STATEMENT_LIMIT, "name a directory of `mvm build --out`"
            )
            yield Submission(bundle, replace(evidence, provenance=provenance), opened)


def _image_of(context: Context, plan: Plan) -> StoredImage:
    """The kept build that a signed plan names.

    Nothing of the build is trusted yet: admission verifies it, without hashing a rootfs that verity vouches for.
    """
    wanted = plan.manifest
    if wanted is None:
        why, hint = "it names no manifest.json, so it is for no image", "make it with `mvm plan create`"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, hint)
    for entry in context.library.entries():
        if (entry.manifest, entry.bundle) == (wanted, plan.provenance):
            return context.library.read(entry)
    raise MvmnixError(
        f"the image of this plan isn't kept here: {plan.image}, manifest {wanted}, provenance {plan.provenance}",
        hint="bring it: mvm image load ARCHIVE, or launch with --image DIRECTORY (of `mvm build --out`); a new build "
        "needs a new plan",
    )


def create_machine(context: Context, bundle: bytes, *, name: str = "", image: str = "", vsa: str = "") -> str:
    """Admit a signed plan, and register a machine for it that doesn't run yet; returns its id. Nothing is spent.

    `image` and `vsa` are as in `admit_plan`. Raises RefusedError, once it is in the log.
    """
    with context.working(), admit_plan(context, bundle, image, vsa) as verified:  # until then no image is removed
        _refuse_what_could_not_start(context, verified)
        origin = MachineSource(*(str(Path(path).absolute()) if path else "" for path in (image, vsa)))
        return register(verified, context.machines, context.journal, now=now(), name=name, origin=origin)


@contextmanager
def admit_created(context: Context, machine: str) -> Iterator[tuple[VerifiedPlan, str]]:
    """The plan of a created machine, verified anew, and the machine's id; its files are closed at the end.

    Raises UsageError for a machine that can't be started; RefusedError, once it is in the log.
    """
    status, origin = waiting_machine(context.machines, machine)
    with admit_plan(context, _plan_of(context, status), origin.image, origin.summary) as verified:
        yield verified, status.machine


def _refuse_what_could_not_start(context: Context, verified: VerifiedPlan) -> None:
    """A container, and a plan that was spent. Raises RefusedError, which is in the log; UsageError for untold ones."""
    if verified.plan.use.is_untold:
        why = f"the plan is for a {verified.plan.use}, and no machine is kept of it"
        raise UsageError(why, hint="see mvm warm --help and mvm pool --help")
    with context.recorded(plan=verified.digest):
        if verified.plan.backend is Backend.CONTAINER:
            why, hint = "a container is not a machine, and runs in the foreground alone", "run it: `mvm launch`"
            raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)
        open_replay(context, context.frontend.notice).judge(verified.plan)


def _plan_of(context: Context, status: MachineStatus) -> bytes:
    """The bytes that the machine was created from; none of them is trusted yet. Raises MvmnixError, RefusedError."""
    bundle = read_kept(context.machines, status.machine, PLAN)
    if bundle is None:
        hint = f"remove it: mvm rm {status.machine}"
        raise MvmnixError(f"the plan of machine {status.machine} is gone", hint=hint)
    with context.recorded(plan=Digest.of(bundle)):
        check_creation(status, context.journal.about(status.machine))
        if Digest.of(bundle) != status.plan:
            why = f"it is not the one that the machine {status.machine} was created from: {status.plan}"
            hint = f"remove that machine, and create another one: mvm rm {status.machine}"
            raise refuse(ReasonCode.PLAN_MISMATCH, "the machine's plan", why, hint)
    return bundle
