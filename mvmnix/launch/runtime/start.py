"""The only starter of machines, and of nothing but what was verified.

The steps, which the code repeats by number:

1. What the guest is to be told, its secrets included, and what executes it, is settled, its shares are opened, its data
   disk is made, and sandboxes for the hypervisor and for what serves the shares. A plan or policy that demands
   what this host hasn't, a secret that isn't where the plan says, a directory that is not to be shared, or a service
   that the plan doesn't grant, is refused, and that is logged.
2. The machine gets its directory, and the lock that says that it lives; or takes the one that `mvm create` made for it,
   unless that is not what the log has of its creation (launch/runtime/creation.py), which is refused and logged.
3. The plan's nonce is spent, durably; a plan for once that started before is refused, and that is logged
   (launch/gate/replay.py). From here on it is spent, whatever fails: what was refused or failed before has spent
   nothing. The machine's status says `starting` before.
4. Its start is in the audit log, durably; if that can't be written, nothing starts. Nor does it when the log's anchor
   has to have the record, and doesn't take it: then the log has its end too.
5. What serves its shares starts; where the plan bounds what the guest writes there, and it turns out that this can't be
   counted, that is refused and logged, and the log has the end too. Then the hypervisor starts, from the very bytes
   that were verified, and beside it what serves its network (network/host/setup.py). Where a template is kept that was
   made of the same image in a machine of the same shape, under the policy in force, the guest goes on from there
   (launch/runtime/warm.py), and otherwise it boots.
6. The guest agent reports, is told what the plan says, and answers that it is ready; its network serves. A boot that
   stalls or hangs, or panics in a builder VM, before it was told any secret is ended and begun once more: steps 1, 4
   (a record of its own) and 5.

However a machine ends, no process is left of it, and there is a receipt and one record of the end.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from mvmnix.audit.record import Record, RecordKind
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, UsageError, refuse
from mvmnix.launch.agent.guest_network import GuestNetwork
from mvmnix.launch.agent.port_forward import ServiceFactory
from mvmnix.launch.agent.requests import ENTROPY_BYTES, GuestConfig, Mount
from mvmnix.launch.data.setup import PreparedDisk
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.accelerator import choose
from mvmnix.launch.runtime.creation import start_home, take
from mvmnix.launch.runtime.finalize import MachineFailedError, RunObservations, never_ran
from mvmnix.launch.runtime.guest_clock import guest_time
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.runtime.vm_process import Guest, Preparation
from mvmnix.launch.runtime.waiting import ClaimedGuest, Origin, WaitingMachine
from mvmnix.launch.runtime.warm import template_command, template_key, warm_spec
from mvmnix.launch.shares.setup import ShareContext, Shares
from mvmnix.launch.snapshots.statement import unfit
from mvmnix.launch.templates.guest_memory import placeholder_disk
from mvmnix.launch.templates.record import TemplateKey
from mvmnix.launch.templates.store import NoTemplateError
from mvmnix.launch.templates.template import Template
from mvmnix.machines.ending import EndReason
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.status import MachineState
from mvmnix.model import DirectoryOrder, Verb
from mvmnix.network.host import namespace_setup
from mvmnix.network.host.setup import MachineNetwork
from mvmnix.network.policy.risk_checks import refuse_unacknowledged
from mvmnix.plan.backend import Backend
from mvmnix.plan.plan import Use
from mvmnix.system import log
from mvmnix.system.prctl import disable_core_dumps_and_tracing
from mvmnix.vmm.port import Acceleration, LaunchSpec, MemoryBackend, PlaceholderDisk
from mvmnix.vmm.tsc import TscClock

#: What the guest's agent is told of its link.
GUEST_NETWORK: Final = GuestNetwork(
    address=namespace_setup.GUEST,
    prefix=namespace_setup.PREFIX,
    gateway=namespace_setup.GATEWAY,
    gateway_mac=namespace_setup.GATEWAY_MAC,
    mtu=namespace_setup.MTU,
    resolver=namespace_setup.GATEWAY,
)

_MIB: Final = 1 << 20
_NO_SERVICES: Final[Mapping[int, ServiceFactory]] = {}
#: Stands for sockets that don't exist yet.
_NONE: Final = -1
#: A guest that is to be started, or one that runs already.
type Prepared = Preparation | ClaimedGuest


def start_machine(
    plan: VerifiedPlan,
    host: Host,
    *,
    name: str = "",
    services: Mapping[int, ServiceFactory] = _NO_SERVICES,
    created: str = "",
    reboots_panic: bool = False,
    waiting: WaitingMachine | None = None,
) -> Machine:
    """Start what was verified; returns when the guest is ready. The plan stays the caller's, and open meanwhile.

    `name` is the user's for it; `services` answer the connections that the guest opens to ports that the plan grants.
    `created` is the id of the machine that `mvm create` made of the very same plan; without it a new one is made.
    `reboots_panic`: a guest that panics before it is ready is begun once more, as one that stalls is.
    `waiting` is a machine of a pool, whose guest it goes on with if that is the same; otherwise that machine is ended.
    To be called from a thread that lives as long as the machine: when it ends, the kernel ends the hypervisor.
    Raises RefusedError [backend-unavailable, network-forbidden, network-unavailable, accelerator-unavailable,
    hardware-required, verb-not-granted, creation-mismatch, secret-unavailable, share-forbidden, share-unavailable,
    limit-unavailable] before anything is made, the last one also later (see `_spawned`), UsageError for a name, or a
    plan for a template, what `Replay.spending` does, MvmnixError when nonce or log can't be written; and what
    `finalize.end_failure` returns when the boot fails.
    """
    if plan.plan.use.is_untold:
        why = f"the plan is for a {plan.plan.use}, and starts no machine of its own"
        raise UsageError(why, hint="see mvm warm --help and mvm pool --help")
    tsc = TscClock.start()
    with refusals_logged(plan, host):  # 1
        config, versions, preparation = _prepared(plan, host, services, tsc, waiting=waiting)
    observations = begun(plan, host, preparation, name, created)  # 2, 3, 4
    observations.secret_versions = versions
    machine = spawned(observations, preparation, services)  # 5
    with ended_unless_ready(machine, observations):
        another = partial(_another, observations, services)
        machine.boot(named(config, plan, observations.home), another, reboots_panic=reboots_panic)  # 6
    return machine


def start_to_save(plan: VerifiedPlan, host: Host, files: SaveFiles) -> tuple[Machine, TemplateKey, int]:
    """Start a machine whose guest is to be saved before it is told anything: steps 1 to 5.

    `files`, into which it is, stay the caller's. Returns it, what a template of it depends on, and the frequency of
    its counter in kHz. Raises as `start_machine` does; UsageError where no machine of its kind can start warm.
    """
    if plan.plan.use is not Use.TEMPLATE:
        raise UsageError("the plan is not for a template", hint="have mvm make one that is: mvm warm IMAGE")
    tsc = TscClock.start()
    with refusals_logged(plan, host):
        spec = settled(plan, host, tsc)
        shares, disk = _placeholders(plan)
        try:
            spec = replace(_with_disks(spec, spec.tsc_khz, shares, disk), memory=files.backend, saves=files.state)
            key = _key_to_save(plan, host, spec)
            network = machine_network(plan, host)
            preparation = Preparation(host.hypervisor, host.jail, spec, shares, disk, network=network)
        except BaseException:
            shares.close()
            if disk is not None:
                disk.release()
            raise
    observations = begun(plan, host, preparation, "", "")
    return spawned(observations, preparation, _NO_SERVICES), key, spec.tsc_khz


def start_to_wait(plan: VerifiedPlan, host: Host) -> WaitingMachine:
    """Start a machine of a pool from its template, steps 1 to 5; returns when its guest goes on, told nothing.

    Raises as `start_machine` does; MvmnixError where no template is kept for it; UsageError where none can be, or the
    plan isn't a pool's.
    """
    if plan.plan.use is not Use.POOL:
        raise UsageError("the plan is not for a pool", hint="have mvm make one that is: mvm pool set IMAGE")
    if plan.plan.network is not None:
        raise UsageError("no machine waits that has a network", hint="set a pool without one")
    tsc = TscClock.start()
    with refusals_logged(plan, host):
        spec = settled(plan, host, tsc)
        spec = replace(spec, tsc_khz=tsc.khz())
        if host.kvm.verdict(spec, plan.image.kernel.digest).usable:
            raise UsageError("machines here run under KVM, and none waits for them", hint="start them: they boot fast")
        try:
            restored, template = warm_spec(plan, host, spec)
        except NoTemplateError as error:
            raise MvmnixError(str(error), hint="make a template: mvm pool set IMAGE -n N") from error
        finally:
            host.templates.close()
        origin = Origin(template.record, template.salt)
        preparation = Preparation(host.hypervisor, host.jail, restored, template=template)
    observations = begun(plan, host, preparation, "", "")
    machine = spawned(observations, preparation, _NO_SERVICES)
    with ended_unless_ready(machine, observations):
        machine.wait_untold()
    return WaitingMachine(machine, spec, origin, preparation.invocation)


@contextmanager
def ended_unless_ready(machine: Machine, observations: RunObservations) -> Iterator[None]:
    """End a machine whose guest doesn't become ready; a template that was to blame is used no more."""
    try:
        yield
    except BaseException as error:
        machine.kill()
        if isinstance(error, MachineFailedError | GuestTimeoutError):
            _forget_template(observations)
        raise


def _key_to_save(plan: VerifiedPlan, host: Host, spec: LaunchSpec) -> TemplateKey:
    try:
        return template_key(plan, host, spec)
    except NoTemplateError as error:
        raise UsageError(str(error), hint="such machines boot each time") from error


def begun(plan: VerifiedPlan, host: Host, preparation: Prepared, name: str, created: str) -> RunObservations:
    """Steps 2, 3 and 4; what was prepared is let go of where they fail."""
    try:
        with refusals_logged(plan, host):
            home = take(plan, host, created) if created else start_home(plan, host.machines, host.clock(), name)  # 2
        template, waited, snapshot = preparation.template, preparation.waited, preparation.snapshot
        invocation, acceleration = preparation.invocation, preparation.acceleration
        observations = RunObservations(plan, host, home, invocation, acceleration, template, waited, snapshot)
        begin_start(observations)  # 3, 4
    except BaseException:
        preparation.discard()
        raise
    return observations


def _forget_template(observations: RunObservations) -> None:
    """Have no other machine start from a template whose guest wasn't ready, unless that had waited in between."""
    if observations.template is not None and observations.waited is None:
        observations.host.templates.reject(observations.template)


def begin_start(observations: RunObservations) -> None:
    """Steps 3 and 4. What fails here leaves nothing of it, or an end beside the start that is in the log."""
    try:
        started = None if observations.home.status.origin is None else observations.host.clock()
        observations.home.advance(MachineState.STARTING, acceleration=observations.acceleration, started=started)
        with _spent(observations) as nonce:  # 3
            observations.record_start(nonce)  # 4
    except BaseException:
        if observations.start_is_logged:
            never_ran(observations, EndReason.NOT_STARTED)
        else:
            observations.home.discard(observations.host.machines)
        raise


@contextmanager
def _spent(observations: RunObservations) -> Iterator[Digest]:
    """The nonce, spent for this machine; no other start spends one meanwhile."""
    plan, host, snapshot = observations.plan, observations.host, observations.snapshot
    restored = None if snapshot is None else snapshot.statement
    with ExitStack() as spending:
        with refusals_logged(plan, host):
            machine = observations.home.status.machine
            nonce = spending.enter_context(host.replay.spending(plan, machine, restored=restored))
        yield nonce


@contextmanager
def refusals_logged(plan: VerifiedPlan, host: Host) -> Iterator[None]:
    """Put a refusal into the log, but into none that is itself refused: it stays as it is, for evidence."""
    try:
        yield
    except RefusedError as refused:
        if ReasonCode.LOG_MISMATCH not in refused.codes:
            host.journal.append(
                Record(
                    kind=RecordKind.REFUSAL,
                    time=host.clock(),
                    plan=plan.digest,
                    policy=plan.policy,
                    reasons=refused.codes,
                )
            )
        raise


def guest_config(plan: VerifiedPlan, host: Host, services: Collection[int], mounts: tuple[Mount, ...]) -> GuestConfig:
    """What the guest will be told; its host name is still to come. Raises RefusedError."""
    wanted, variation = plan.plan, plan.plan.variation
    if unasked := sorted(set(services) - set(wanted.ports)):
        hint = "name the ports in the plan, with the verb stream"
        raise refuse(ReasonCode.VERB_NOT_GRANTED, "stream", f"the plan doesn't grant the ports {unasked}", hint)
    if services and wanted.secrets:
        why = "a machine that the host answers, as it does a builder VM, is given no secrets"
        raise refuse(ReasonCode.SECRET_UNAVAILABLE, "the plan", why, "make a plan without secrets for it")
    if wanted.secrets:
        disable_core_dumps_and_tracing()  # before this process has any
    secrets = host.means.resolve_secrets(wanted.secrets) if wanted.secrets else ()
    try:
        return GuestConfig(
            hostname="mvm" if variation is None else variation.hostname,
            time_ns=guest_time(wanted, host.clock),
            entropy=os.urandom(ENTROPY_BYTES),
            scratch=wanted.scratch_mib * _MIB,
            owner=wanted.workload.user,
            writable=plan.image.writable,
            verbs=wanted.verbs,
            ports=tuple(sorted(services)),
            workload=wanted.workload if wanted.workload.argv else None,
            timeout_ms=wanted.timeouts.wall_seconds * 1000,
            order=DirectoryOrder(variation.directory_order) if variation else DirectoryOrder.NATURAL,
            secrets=secrets,
            shares=mounts,
            system_calls=wanted.limits.system_calls or plan.image.system_calls,
            tasks=wanted.limits.tasks or 0,
            data=wanted.data.path if wanted.data else "",
            network=GUEST_NETWORK if wanted.network else None,
        )
    except ValueError as error:
        why = f"no guest can be set up like that: {error}"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan", why, "correct the image or the plan, and sign it") from error


def secret_versions(plan: VerifiedPlan, host: Host, config: GuestConfig) -> tuple[str, ...]:
    """Return the versions of what the guest is told in confidence, where snapshots may have it; none otherwise."""
    is_kept = plan.plan.snapshot_with_secrets
    return host.snapshots.secret_versions(plan.digest, config.secrets) if is_kept else ()


def _prepared(
    plan: VerifiedPlan,
    host: Host,
    services: Collection[int],
    tsc: TscClock,
    *,
    waiting: WaitingMachine | None = None,
    is_cold: bool = False,
) -> tuple[GuestConfig, tuple[str, ...], Prepared]:
    """Step 1; also the versions of secrets. Raises as `start_machine` does. With `is_cold` it boots."""
    wanted = plan.plan
    limit, opener = wanted.limits.shared_bytes, host.means.open_shares
    given = ShareContext(host.jail, wanted.memory_mib, wanted.workload.user, host.own, limit, opener)
    shares, disk, network, files = Shares.ready(wanted.shares, given), None, None, None
    try:
        # before any secret is read
        network = machine_network(plan, host)
        config = guest_config(plan, host, services, shares.mounts)
        versions = secret_versions(plan, host, config)
        disk = PreparedDisk.ready(wanted.data, host.machines) if wanted.data else None
        spec = settled(plan, host, tsc)
        spec = _with_disks(spec, tsc.khz(), shares, disk)
        if may_be_saved(plan, spec):
            files = SaveFiles.empty(wanted.memory_mib, spec.data)
            spec = replace(spec, memory=files.backend, saves=files.state)
        if waiting is not None and (claimed := _claimed(waiting, plan, host, spec)) is not None:
            return config, versions, claimed
        timed, template = _warmed(plan, host, spec, files, is_cold=is_cold)
        prepared = partial(Preparation, host.hypervisor, host.jail, timed, shares, disk)
        return config, versions, prepared(network=network, template=template, files=files)
    except BaseException:
        shares.close()
        if files is not None:
            files.close()
        if disk is not None:
            disk.release()
        if network is not None:
            network.close()
        raise


def _claimed(waiting: WaitingMachine, plan: VerifiedPlan, host: Host, spec: LaunchSpec) -> ClaimedGuest | None:
    """The guest of a machine that waits, where this machine can go on with it; otherwise that machine is ended."""
    try:
        waiting.check(plan, host, spec)
    except NoTemplateError as error:
        log.info("pools", "a start without the machine that waits: %s", error)
        waiting.end()
        return None
    log.info("pools", "the machine %s is claimed", waiting.id)
    host.templates.close()
    return waiting.claim()


def _with_disks(spec: LaunchSpec, tsc_khz: int, shares: Shares, disk: PreparedDisk | None) -> LaunchSpec:
    """The machine with what a template's key counts."""
    data = None if disk is None else disk.attachment
    memory = None if shares.memory is None else MemoryBackend(shares.memory)
    return replace(spec, tsc_khz=tsc_khz, memory=memory, shares=shares.attachments, data=data)


def _placeholders(plan: VerifiedPlan) -> tuple[Shares, PreparedDisk | None]:
    """What stands for the disks of the machines that a template is for."""
    wanted = plan.plan.placeholders
    shares = Shares.of_placeholders([placeholder_disk() for _ in range(wanted.shares)])
    return shares, PreparedDisk(PlaceholderDisk(placeholder_disk())) if wanted.data else None


def may_be_saved(plan: VerifiedPlan, spec: LaunchSpec) -> bool:
    """Whether snapshots of a machine may be taken: then its memory is this process's, too."""
    is_granted = Verb.SNAPSHOT in plan.plan.verbs and not unfit(plan.plan)
    return is_granted and spec.acceleration is Acceleration.TCG


def _warmed(
    plan: VerifiedPlan, host: Host, spec: LaunchSpec, files: SaveFiles | None, *, is_cold: bool
) -> tuple[LaunchSpec, Template | None]:
    """The machine as one that begins as a template, where there is one to start from."""
    if is_cold:
        return spec, None
    try:
        spec, template = warm_spec(plan, host, spec, files)
    except NoTemplateError as error:
        made_by = f"; made by {template_command(plan.plan, spec)}" if host.templates.missed else ""
        log.info("templates", "a cold start: %s%s", error, made_by)
        return spec, None
    else:
        log.info("templates", "a warm start, from what the machine %s left", template.record.machine)
        return spec, template
    finally:
        host.templates.close()


def named(config: GuestConfig, plan: VerifiedPlan, home: MachineHome) -> GuestConfig:
    """The same with the machine's own host name, unless the plan gives it another."""
    return config if plan.plan.variation else replace(config, hostname=f"mvm-{home.status.machine}")


def settled(plan: VerifiedPlan, host: Host, tsc: TscClock) -> LaunchSpec:
    """The machine but for its sockets.

    Raises RefusedError [backend-unavailable, accelerator-unavailable, hardware-required].
    """
    wanted = plan.plan
    if wanted.backend is not host.hypervisor.backend:
        why = f"it names {wanted.backend}, and what would start it here is {host.hypervisor.backend}"
        hint = "name this backend in a plan: `mvm plan create --backend`"
        raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)
    if wanted.backend is Backend.CONTAINER:
        why, hint = "a container is not a machine", "run it in the foreground: `mvm launch` without --detach"
        raise refuse(ReasonCode.BACKEND_UNAVAILABLE, "the plan's backend", why, hint)
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
        cpu_percent=wanted.limits.cpu_percent,
        cpu_weight=wanted.limits.cpu_weight,
    )
    kernel = plan.image.kernel.digest
    kvm = partial(host.kvm.verdict, spec, kernel)
    chosen = choose(wanted.accelerator, kvm, host.notice, required=plan.required)
    return replace(spec, acceleration=chosen, kvm=host.kvm.open() if chosen is Acceleration.KVM else None)


def machine_network(plan: VerifiedPlan, host: Host) -> MachineNetwork | None:
    """What guards the guest's network, where the plan gives it one.

    Raises RefusedError [plan-mismatch, network-forbidden, network-unavailable].
    """
    network = plan.plan.network
    if network is None:
        return None
    if not plan.image.network:
        why, hint = "its image's machines can't be in a network", "build an image with `network = true`, and plan again"
        raise refuse(ReasonCode.PLAN_MISMATCH, "the plan's network", why, hint)
    refuse_unacknowledged(network)
    return MachineNetwork(network, host.jail)


def spawned(observations: RunObservations, preparation: Prepared, services: Mapping[int, ServiceFactory]) -> Machine:
    """Start the hypervisor; a start that fails is concluded like any machine, since the log says that it began."""
    try:
        guest = _guest(observations, preparation, services)
    except BaseException as error:
        refused = isinstance(error, RefusedError)
        never_ran(observations, EndReason.NOT_STARTED if refused else EndReason.HYPERVISOR_DIED)
        raise
    return Machine(observations, guest)


def _guest(observations: RunObservations, preparation: Prepared, services: Mapping[int, ServiceFactory]) -> Guest:
    """What is prepared, started.

    RefusedError [limit-unavailable], which is logged, where it turns out only now that a limit can't be kept.
    """
    try:
        with refusals_logged(observations.plan, observations.host):
            loop, console = observations.host.loop, observations.open_console().write
            return preparation.spawn(loop, console=console, services=services, tally=observations.tally)
    except BaseException:
        preparation.discard()
        raise


def _another(observations: RunObservations, services: Mapping[int, ServiceFactory]) -> tuple[Guest, GuestConfig]:
    """Steps 1, 4 and 5 again, for a guest that was told nothing yet: the machine, its directory and its nonce stay."""
    plan, host, tsc = observations.plan, observations.host, TscClock.start()
    _forget_template(observations)
    with refusals_logged(plan, host):
        config, versions, preparation = _prepared(plan, host, services, tsc, is_cold=True)  # 1
    observations.secret_versions = versions
    try:
        observations.record_restart(preparation.invocation, preparation.acceleration)  # 4
    except BaseException:
        preparation.discard()
        raise
    return _guest(observations, preparation, services), named(config, plan, observations.home)  # 5
