"""Takes plans through the gate, with this host's policy, log, clock and nonces."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mvmnix.api import audit
from mvmnix.api.context import Context
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import StoredImage
from mvmnix.launch.gate.admission import admit
from mvmnix.launch.gate.clock import HostClock
from mvmnix.launch.gate.replay import LoggedStarts, Replay
from mvmnix.launch.gate.verify import SignedPlan, Submission, VerifiedPlan
from mvmnix.system import log
from mvmnix.vmm.boot_files import OpenFiles


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
