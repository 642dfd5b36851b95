"""The only starter of machines, and of nothing but what was verified.

The steps, which the code repeats by number:

1. What the guest is to be told, and what executes it, is settled. A plan that demands what this host hasn't, or a
   service that the plan doesn't grant, is refused, and that is logged.
2. The machine gets its directory, and the lock that says that it lives.
3. Its start is in the audit log, durably; if that can't be written, nothing starts.
4. The hypervisor starts, from the very bytes that were verified.
5. The guest agent reports, is told what the plan says, and answers that it is ready.

However a machine ends, no process is left of it, and there is a receipt and one record of the end.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from mvmnix.audit.record import Kind, Record
from mvmnix.errors import ReasonCode, RefusedError, refuse
from mvmnix.launch.accelerator import choose
from mvmnix.launch.conclusion import Course, never_ran
from mvmnix.launch.guest import Preparation
from mvmnix.launch.home import MachineHome
from mvmnix.launch.host import Host
from mvmnix.launch.hypervisor import Acceleration, LaunchSpec
from mvmnix.launch.machine import Machine
from mvmnix.launch.requests import ENTROPY_BYTES, GuestConfig
from mvmnix.launch.services import ServiceFactory
from mvmnix.launch.status import MachineState
from mvmnix.launch.tsc import TscClock
from mvmnix.launch.verify import VerifiedPlan
from mvmnix.model import DirectoryOrder

_MIB: Final = 1 << 20
_NO_SERVICES: Final[Mapping[int, ServiceFactory]] = {}
#: Stands for sockets that don't exist yet.
_NONE: Final = -1


def start(
    plan: VerifiedPlan, host: Host, *, name: str = "", services: Mapping[int, ServiceFactory] = _NO_SERVICES
) -> Machine:
    """Start what was verified; returns when the guest is ready. The plan stays the caller's, and open meanwhile.

    `name` is the user's for it; `services` answer the connections that the guest opens to ports that the plan grants.
    To be called from a thread that lives as long as the machine: when it ends, the kernel ends the hypervisor.
    Raises RefusedError [accelerator-unavailable, verb-not-granted, plan-mismatch] before anything is made, UsageError
    for a name, MvmnixError when the log can't be written; and what `conclusion.failure` says when the boot fails.
    """
    tsc = TscClock.start()
    try:  # 1
        config = _config(plan, host, services)
        spec = _settled(plan, host, tsc)
    except RefusedError as refused:
        host.journal.append(_refusal(plan, host, refused))
        raise
    home = _home(plan, host, name)  # 2
    preparation = Preparation(host.hypervisor, replace(spec, tsc_khz=tsc.khz()))
    course = Course(plan, host, home, preparation.invocation, spec.acceleration)
    try:
        course.record_start()  # 3
    except BaseException:
        preparation.discard()
        home.discard(host.machines)
        raise
    machine = _spawned(course, preparation, services, _named(config, plan, home))  # 4
    try:
        machine.boot()  # 5
    except BaseException:
        machine.kill()
        raise
    return machine


def _config(plan: VerifiedPlan, host: Host, services: Collection[int]) -> GuestConfig:
    """What the guest will be told; its host name is still to come. Raises RefusedError."""
    wanted, variation = plan.plan, plan.plan.variation
    if unasked := sorted(set(services) - set(wanted.ports)):
        hint = "name the ports in the plan, with the verb stream"
        raise refuse(ReasonCode.VERB_NOT_GRANTED, "stream", f"the plan doesn't grant the ports {unasked}", hint)
    try:
        return GuestConfig(
            hostname="mvm" if variation is None else variation.hostname,
            time_ns=int((host.clock().timestamp() + (variation.clock_offset if variation else 0)) * 1e9),
            entropy=os.urandom(ENTROPY_BYTES),
            scratch=wanted.scratch_mib * _MIB,
            owner=wanted.workload.user,
            writable=plan.image.writable,
            verbs=wanted.verbs,
            ports=tuple(sorted(services)),
            workload=wanted.workload if wanted.workload.argv else None,
            timeout_ms=wanted.timeouts.wall_seconds * 1000,
            order=DirectoryOrder(variation.directory_order) if variation else DirectoryOrder.NATURAL,
        )
    except ValueError as error:
        why = f"no guest can be set up like that: {error}"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, "correct the image or the plan, and sign it") from error


def _named(config: GuestConfig, plan: VerifiedPlan, home: MachineHome) -> GuestConfig:
    """The same with the machine's own host name, unless the plan gives it another."""
    return config if plan.plan.variation else replace(config, hostname=f"mvm-{home.status.machine}")


def _home(plan: VerifiedPlan, host: Host, name: str) -> MachineHome:
    """Its directory, with the lock. Raises UsageError for the name."""
    return MachineHome.create(
        host.machines,
        name=name,
        image=plan.plan.image,
        plan=plan.digest,
        policy=plan.policy,
        now=host.clock(),
        manifest=plan.image.manifest.digest,
        provenance=plan.plan.provenance,
    )


def _settled(plan: VerifiedPlan, host: Host, tsc: TscClock) -> LaunchSpec:
    """The machine but for its sockets. Raises RefusedError [accelerator-unavailable]."""
    wanted = plan.plan
    spec = LaunchSpec(
        kernel=plan.kernel,
        initrd=plan.initrd,
        rootfs=plan.rootfs,
        channel=_NONE,
        console=_NONE,
        monitor=_NONE,
        vcpus=wanted.vcpus,
        memory_mib=wanted.memory_mib,
        command_line=wanted.command_line,
        acceleration=Acceleration.TCG,
        tsc_khz=tsc.khz(),
    )
    kernel = plan.image.kernel.digest
    return replace(spec, acceleration=choose(wanted.accelerator, lambda: host.kvm.verdict(spec, kernel), host.notice))


def _spawned(
    course: Course, preparation: Preparation, services: Mapping[int, ServiceFactory], config: GuestConfig
) -> Machine:
    """Start the hypervisor; a start that fails is concluded like any machine, since the log says that it began."""
    try:
        course.home.advance(MachineState.STARTING, acceleration=course.acceleration)
        guest = preparation.spawn(course.host.loop, console=course.open_console().write, services=services)
    except BaseException:
        preparation.discard()
        never_ran(course)
        raise
    return Machine(course, guest, config)


def _refusal(plan: VerifiedPlan, host: Host, refused: RefusedError) -> Record:
    return Record(kind=Kind.REFUSAL, time=host.clock(), plan=plan.digest, policy=plan.policy, reasons=refused.codes)
