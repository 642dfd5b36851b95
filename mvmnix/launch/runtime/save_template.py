"""Makes a template: starts a machine from a plan for one, has its guest saved before it is told anything."""

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.escaping import escape
from mvmnix.launch.agent.frames import MAX_TEXT, Hello
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.finalize import Ended
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.machine import Machine
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.runtime.start import start_to_save
from mvmnix.launch.templates import guest_memory
from mvmnix.launch.templates.record import TemplateKey, TemplateRecord
from mvmnix.plan.plan import NO_PLACEHOLDERS, Placeholders


def save_template(plan: VerifiedPlan, host: Host) -> Ended:
    """Start, save and end a machine, and keep its template in the place of an older one of the same key.

    Raises UsageError for a plan that isn't for a template, or whose machines can't start warm; what `start_machine` and
    `Machine.save` do; OSError, MvmnixError where it can't be kept, as one with disks of an agent that binds them early.
    """
    host.templates.prepare()
    host.templates.close()
    with SaveFiles.empty(plan.plan.memory_mib) as files:
        machine, key, tsc_khz = start_to_save(plan, host, files)
        with machine:
            ended = machine.save()
        devices = files.read_state()
        digest = guest_memory.digest(guest_memory.blocks(files.memory))
        record = _record(plan, host, machine, key, tsc_khz=tsc_khz, memory=digest, devices=devices)
        _keep(host, record, devices, files.memory)
        return ended


def _record(
    plan: VerifiedPlan,
    host: Host,
    machine: Machine,
    key: TemplateKey,
    *,
    tsc_khz: int,
    memory: Digest,
    devices: bytes,
) -> TemplateRecord:
    return TemplateRecord(
        key=key.digest,
        manifest=key.manifest,
        image=plan.plan.image,
        vcpus=key.vcpus,
        memory_mib=key.memory_mib,
        network=key.network,
        images=key.images,
        data=key.data,
        boot=key.boot,
        machine=machine.id,
        plan=plan.digest,
        policy=host.templates.policy,
        made=host.clock(),
        tsc_khz=tsc_khz,
        hello=_checked(machine.hello, plan.plan.placeholders),
        memory=memory,
        state=Digest.of(devices),
        state_bytes=len(devices),
    )


def _checked(hello: Hello | None, disks: Placeholders) -> Hello:
    """What the guest said of itself, where machines with such disks can start from it. Raises MvmnixError."""
    if hello is None:
        raise MvmnixError("the guest never reported", hint="try again: mvm warm")
    if disks != NO_PLACEHOLDERS and not hello.binds_disks_late:
        why = "the image is of an older mvm, and its guests know their disks before they are told anything"
        raise MvmnixError(why, hint="build the image again; or make a template without --shares and --data")
    return Hello(hello.version, *map(_shown, (hello.agent, hello.kernel)))


def _keep(host: Host, record: TemplateRecord, devices: bytes, memory: int) -> None:
    """Keep it, and remove what is of no use any more: where there is no room, too, for the next attempt."""
    try:
        host.templates.keep(record, devices, memory)
    finally:
        host.templates.prune(record.boot)


def _shown(text: str) -> str:
    """What the guest says of itself, as it can be written down."""
    return escape(text)[:MAX_TEXT]
