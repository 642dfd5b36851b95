"""Admits signed plans, and starts machines from what was admitted: attached to streams, or detached."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mvmnix.api import files
from mvmnix.api.context import Context
from mvmnix.api.files import file_bytes
from mvmnix.api.gate import admit_kept, admit_submission
from mvmnix.api.host import open_host
from mvmnix.api.terminal import Terminal, run_in_terminal
from mvmnix.api.verify.image import open_exported
from mvmnix.errors import MvmnixError, ReasonCode, UsageError, refuse
from mvmnix.images.file_names import BUNDLE_NAME
from mvmnix.images.store import STATEMENT_LIMIT, StoredImage
from mvmnix.launch.agent.commands import ExitStatus
from mvmnix.launch.agent.endpoints import Sink, Stdin
from mvmnix.launch.agent.stream_frames import End
from mvmnix.launch.backends import choice
from mvmnix.launch.container.run import run_container
from mvmnix.launch.gate.checks import SummarizedImage
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, read_plan
from mvmnix.launch.machines import retention
from mvmnix.launch.machines.machine_dir import read_status
from mvmnix.launch.plan.backend import Backend
from mvmnix.launch.plan.plan import Plan
from mvmnix.launch.runtime.accelerator import accelerator_line
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.supervisor import SupervisedEnd, detach, supervise
from mvmnix.launch.vmm.port import Acceleration
from mvmnix.model import Digest
from mvmnix.provenance.verify.summary import Summary
from mvmnix.roots import Roots


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


def host_for(context: Context, plan: VerifiedPlan) -> Host:
    """What a machine on the plan's backend is given. A refusal [backend-unavailable] is in the audit log."""
    with context.recorded(plan=plan.digest):
        return open_host(context, context.frontend.notice, plan.plan.backend)


@dataclass(frozen=True, slots=True)
class RunResult:
    """A machine that ran to its end, None for a container, and how it ended."""

    machine: Machine | None
    finished: SupervisedEnd

    @property
    def machine_id(self) -> str:
        """The machine's id; a container has one too."""
        return Path(self.finished.ended.receipt_path).parent.name


def run_attached(
    plan: VerifiedPlan,
    host: Host,
    *,
    stdout: Sink,
    stderr: Sink,
    stdin: Stdin = None,
    name: str = "",
    created: str = "",
    disposable: bool = False,
    terminal: Terminal | None = None,
) -> RunResult:
    """Start a machine, run the plan's command in it with these streams, and end it; a container's likewise.

    In a `terminal` it has no other streams; `refuse_terminal` comes before.

    `created` is the id of a machine that was created; without it there is a new one. One that is `disposable` is
    removed some time after its end (launch/machines/retention.py), unless its guest never got ready. Signals that stop
    this process stop the machine, so this is for the main thread. Raises what the start raises; a refusal is in the
    log.
    """
    machines: list[Machine] = []

    def work(machine: Machine) -> ExitStatus:
        machines.append(machine)
        dispose(machine.id)
        if terminal is not None:
            return _reported(run_in_terminal(machine, plan.plan, terminal), plan, host)
        return _reported(machine.run(stdout=stdout, stderr=stderr, stdin=stdin), plan, host)

    with _disposing(host, disposable=disposable) as dispose:
        if plan.plan.backend is Backend.CONTAINER:
            ran = RunResult(None, run_container(plan, host, stdout=stdout, stderr=stderr, stdin=stdin, name=name))
            dispose(ran.machine_id)
            return ran
        finished = supervise(plan, host, work, name=name, created=created)
    return RunResult(machines[0], finished)


def _reported(status: ExitStatus, plan: VerifiedPlan, host: Host) -> ExitStatus:
    """The same; the user is told of a command that did not end by itself."""
    if status.end is not End.EXITED:
        name = next(iter(plan.plan.workload.argv), "")
        host.notice(f"the command {name!r} did not end by itself: it {status}")
    return status


@contextmanager
def _disposing(host: Host, *, disposable: bool) -> Iterator[Callable[[str], None]]:
    """What marks a machine as disposable, if it is; afterwards those of which there are too many are removed."""
    if not disposable:
        yield lambda _machine: None
        return
    try:
        yield lambda machine: retention.mark(host.machines, machine, retention.Kind.RUN)
    finally:
        retention.prune(host.machines, retention.Kind.RUN, host.notice)


def start_detached(
    context: Context, plan: VerifiedPlan, *, name: str = "", created: str = "", disposable: bool = False
) -> str:
    """Start a machine that goes on without this process, a new one or the one that was `created`; returns its id.

    One that is `disposable` is removed some time after its end. The frontend is told what executes and holds it. To be
    called while this process has one thread.
    """
    with context.recorded(plan=plan.digest):  # a process of its own could only fail with it, unlogged
        choice.find(plan.plan.backend)
    make_host = partial(_host_of_its_own, plan.plan.backend)
    machine = detach(plan, make_host, name=name, created=created, failed=_keep_failure)
    if disposable:
        retention.mark(context.machines, machine, retention.Kind.RUN)
    with suppress(FileNotFoundError), context.machines.existing(machine) as home:  # it may be over, and removed
        status = read_status(home, machine)
        if status is not None and status.acceleration:
            context.frontend.notice(accelerator_line(Acceleration(status.acceleration)))
    return machine


def _keep_failure(error: Exception) -> None:
    """In the supervisor: only there is known what its children said."""
    from mvmnix.api.failure_log import keep_failure  # noqa: PLC0415 - only failures pay for it

    if isinstance(error, MvmnixError):
        keep_failure(error)


@contextmanager
def _kept(context: Context, bundle: bytes) -> Iterator[VerifiedPlan]:
    """The plan for an image that is kept here."""
    with ExitStack() as stack:
        with context.working():  # until its files are open, the image may not be removed
            with context.recorded(plan=Digest.of(bundle)):
                signed = read_plan(bundle, context.policy)
                kept = _image_of(context, signed.plan)
            verified = stack.enter_context(admit_kept(context, signed, kept, context.frontend.notice))
        yield verified


@contextmanager
def _handed_in(bundle: bytes, directory: Path, vsa: str) -> Iterator[Submission]:
    """What is verified for an image in a directory: all of its evidence, or a verifier's summary."""
    with open_exported(directory) as it:
        if vsa:
            summary = Summary(file_bytes(vsa, STATEMENT_LIMIT))
            yield Submission(bundle, SummarizedImage(it.manifest, summary), it.files)
        else:
            provenance = files.read(
                str(directory / BUNDLE_NAME), STATEMENT_LIMIT, "name a directory of `mvm build --out`"
            )
            yield Submission(bundle, it.evidence(provenance), it.files)


def _host_of_its_own(backend: Backend) -> Host:
    """What a detached supervisor works with: opened in its own process, since locks don't survive a fork."""
    return open_host(Context(Roots.from_environment(os.environ)), lambda _: None, backend)


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
