"""Starts a builder VM: a guest like any other, from a plan that is signed and verified for this one start."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mvmnix.api.build_limits import AS_THE_IMAGE_SAYS, BuildLimits
from mvmnix.api.context import Context
from mvmnix.api.frontend import Progress
from mvmnix.api.launch import admit_kept, open_host
from mvmnix.builder.nix import nix_commands
from mvmnix.builder.session.cache import Connection
from mvmnix.builder.session.worker_pool import Threads, WorkerPool
from mvmnix.clock import now
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import Role
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.start import start_machine
from mvmnix.launch.runtime.supervisor import stopping_signals
from mvmnix.machines import retention
from mvmnix.model import Verb
from mvmnix.plan import plan as plans
from mvmnix.plan.plan import Use
from mvmnix.provenance.slsa.provenance import BuilderLimits

type Connect = Callable[[Callable[[], None]], Connection]


def builder_plan(context: Context, builder: VerifiedImage, limits: BuildLimits = AS_THE_IMAGE_SAYS) -> plans.Plan:
    """The plan of one builder VM, which starts once: it may be sent commands, and may ask on one port."""
    made = plans.Plan.for_image(
        builder.image,
        policy=context.policy.digest,
        provenance=builder.provenance.bundle,
        now=now(),
        use=Use.ONCE,
        verbs=frozenset({Verb.EXEC, Verb.STREAM}),
        ports=(nix_commands.CACHE_PORT,),
    )
    return replace(
        made,
        vcpus=limits.vcpus or made.vcpus,
        memory_mib=limits.memory_mib or made.memory_mib,
        scratch_mib=limits.scratch_mib or made.scratch_mib,
        timeouts=replace(made.timeouts, wall_seconds=limits.seconds or made.timeouts.wall_seconds),
    )


def limits_of(plan: plans.Plan) -> BuilderLimits:
    """What the plan lets a build use, as provenance says it."""
    return BuilderLimits(plan.vcpus, plan.memory_mib, plan.scratch_mib, plan.timeouts.wall_seconds)


class BuilderVm:
    """One session: a host whose loop answers the VM, and worker threads. Made before the VM starts."""

    def __init__(self, context: Context, progress: Progress, builder: VerifiedImage, plan: plans.Plan) -> None:
        self._context = context
        self._builder = builder
        self._plan = plan
        progress.single_step("starting the builder VM")
        self._host: Host = open_host(context, progress.notice)
        self._host.loop.listen()
        self._threads = Threads(self._host.loop.post)
        self.workers: WorkerPool = self._threads

    @contextmanager
    def running(self, connect: Connect) -> Iterator[Machine]:
        """The VM, whose questions `connect` answers; it is gone at the end, however that comes."""
        bundle = self._context.sign(Role.PLANNER, plans.plan_statement(self._plan).to_bytes())
        services = {nix_commands.CACHE_PORT: connect}
        retention.prune(self._context.machines, retention.MachineKind.BUILD, self._host.notice)
        with (
            admit_kept(self._context, bundle, self._builder, self._host.notice) as verified,
            stopping_signals(self._host.loop),
            start_machine(
                verified, self._host, name=f"builder-{os.getpid()}", services=services, reboots_panic=True
            ) as machine,
            self._context.recorded(),
        ):
            verified.kernel_loaded()
            retention.mark(self._context.machines, machine.id, retention.MachineKind.BUILD)
            try:
                yield machine
            finally:
                self._threads.close()
