"""Says whether a machine can start warm: from a template of its image and shape, or why not."""

from dataclasses import replace

from mvmnix.formats.escaping import shell_command
from mvmnix.launch.agent.frames import PROTOCOL_VERSION
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.save_files import SaveFiles
from mvmnix.launch.templates.record import TemplateKey, TemplateRecord
from mvmnix.launch.templates.store import NoTemplateError
from mvmnix.launch.templates.template import Template
from mvmnix.plan.plan import Plan, Start
from mvmnix.plan.share import ShareKind
from mvmnix.sandbox.trusted_executables import program_identity
from mvmnix.system.procfs import boot_id
from mvmnix.vmm.port import Acceleration, LaunchSpec, MemoryBackend
from mvmnix.vmm.tsc import is_same_frequency


def template_key(plan: VerifiedPlan, host: Host, spec: LaunchSpec) -> TemplateKey:
    """Return what a template for this machine, its disks included, depends on.

    Raises NoTemplateError for one that can't have any.
    """
    if not host.templates.are_allowed:
        raise NoTemplateError("the trust policy lets no machine start from a template")
    if (why := _unfit(plan.plan, spec)) or (manifest := plan.plan.manifest) is None:
        raise NoTemplateError(why or "the plan names no manifest")
    if (emulation := host.hypervisor.emulation(spec.acceleration)) is None:
        raise NoTemplateError("the hypervisor can't save guests")
    programs = (emulation.program, emulation.writer, *host.hypervisor.files)
    return TemplateKey(
        manifest=manifest,
        vcpus=spec.vcpus,
        memory_mib=spec.memory_mib,
        command_line=spec.command_line,
        network=plan.plan.network is not None,
        images=len(spec.shares),
        data=spec.data is not None,
        machine=emulation.machine,
        processor=emulation.processor,
        protocol=PROTOCOL_VERSION,
        boot=boot_id(),
        programs=tuple(program_identity(path) or (path,) for path in programs),
    )


def _unfit(plan: Plan, spec: LaunchSpec) -> str:
    """Why no machine of this plan can start warm; "" where one can."""
    reasons = (
        (plan.start is Start.COLD, "the plan demands a cold start"),
        (
            spec.acceleration is not Acceleration.TCG,
            "a machine under KVM starts cold: that it can be saved isn't tested",
        ),
        (any(it.kind is ShareKind.VIRTIOFS for it in spec.shares), "a machine with a share that is served starts cold"),
    )
    return next((why for holds, why in reasons if holds), "")


def template_command(plan: Plan, spec: LaunchSpec) -> str:
    """Return the command that makes a template for machines of this image, if that is kept, and this shape."""
    words = ["mvm", "warm", f"image:{plan.image}", "--vcpus", str(spec.vcpus), "--memory", f"{spec.memory_mib}M"]
    words += ["--network"] if plan.network is not None else []
    words += ["--shares", str(len(spec.shares))] if spec.shares else []
    words += ["--data"] if spec.data is not None else []
    return shell_command(*words)


def warm_spec(
    plan: VerifiedPlan, host: Host, spec: LaunchSpec, files: SaveFiles | None = None
) -> tuple[LaunchSpec, Template]:
    """Return the machine as one that begins as its template, and that, to be closed.

    Its memory is the template's, mapped privately; or a copy in `files`, where it is to be saved itself. Raises
    NoTemplateError, OSError.
    """
    template = host.templates.find(template_key(plan, host, spec))
    try:
        check_told(template.record, spec)
        if files is not None:
            files.fill(template.memory)
    except BaseException:
        template.close()
        raise
    memory = MemoryBackend(template.memory, is_private=True) if files is None else files.backend
    return replace(spec, tsc_khz=template.record.tsc_khz, memory=memory, restored=template.state), template


def check_told(template: TemplateRecord, spec: LaunchSpec) -> None:
    """Check that the host's counter has the frequency that the guest was told. Raises NoTemplateError."""
    if not is_same_frequency(template.tsc_khz, spec.tsc_khz):
        raise NoTemplateError("the host's time stamp counter has another frequency than when the template was made")
