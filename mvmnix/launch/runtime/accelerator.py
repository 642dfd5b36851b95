"""The only judge of KVM: it is used where a probe guest really booted with it, and nowhere else.

`/dev/kvm` can exist, open, and create a virtual CPU, and still be unable to run a stock kernel. So a probe boots the
plan's own verified kernel and initrd under KVM, without a disk, until the guest agent reports.
"""

import grp
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats.escaping import shell_command
from mvmnix.formats.strict import Record, canonical, parse_json, read
from mvmnix.launch.agent.encoding import ChannelError
from mvmnix.launch.runtime.vm_process import Preparation
from mvmnix.plan.plan import Accelerator
from mvmnix.provenance.isolation import Isolation
from mvmnix.sandbox.trusted_executables import program_identity
from mvmnix.system.loop import Loop
from mvmnix.system.private_dirs import Directory
from mvmnix.system.procfs import boot_id
from mvmnix.system.trusted_path import user_name
from mvmnix.vmm.confinement import Jail
from mvmnix.vmm.port import Acceleration, Hypervisor, LaunchSpec, MonitorEvent

KVM: Final = "/dev/kvm"
#: Seconds. With KVM a guest's agent reports after one; without it the hypervisor stops within a tenth.
PROBE_SECONDS: Final = 15.0
_PROBE_MEMORY_MIB: Final = 256
_VERDICT_LIMIT: Final = 4096

type Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KvmVerdict:
    """Whether KVM boots a guest here, and what was seen; `recalled` when that was by an earlier probe."""

    usable: bool
    seen: str
    recalled: bool = False

    @property
    def words(self) -> str:
        """What was seen, for a notice; only a reminder where the user was told before."""
        return "found earlier, see `mvm doctor`" if self.recalled else self.seen


def choose(
    demand: Accelerator, kvm: Callable[[], KvmVerdict], notice: Notice, *, required: Isolation = Isolation.MICROVM
) -> Acceleration:
    """What a machine will run on; `kvm` is asked only when the plan leaves room for it. The user is told.

    `required` is the isolation that the policy requires. Raises RefusedError: HARDWARE_REQUIRED when that is hardware
    virtualization and there is none here, ACCELERATOR_UNAVAILABLE when the plan demands KVM and there is none.
    """
    if demand is Accelerator.TCG:
        if required is Isolation.HARDWARE:
            raise _no_hardware("the plan demands TCG")
        notice(accelerator_line(Acceleration.TCG, ", as the plan demands"))
        return Acceleration.TCG
    verdict = kvm()
    if verdict.usable:
        notice(accelerator_line(Acceleration.KVM, f"; {verdict.words}"))
        return Acceleration.KVM
    if required is Isolation.HARDWARE:
        raise _no_hardware(f"KVM doesn't work on this host: {verdict.seen}")
    if demand is Accelerator.KVM:
        hint = "run it on a host with hardware virtualization, or sign a plan with accelerator any or tcg"
        why = f"the plan demands KVM, which doesn't work on this host: {verdict.seen}"
        raise refuse(ReasonCode.ACCELERATOR_UNAVAILABLE, "the plan's accelerator", why, hint)
    notice(accelerator_line(Acceleration.TCG, f"; {verdict.words}"))
    return Acceleration.TCG


def accelerator_line(it: Acceleration, why: str = "") -> str:
    """The notice of a start: what executes the guest, `why`, and what therefore holds it."""
    name = "KVM" if it is Acceleration.KVM else "TCG (software emulation)"
    return f"accelerator: {name}{why}; isolation: {it.boundary.explained}"


def _no_hardware(why: str) -> RefusedError:
    hint = "run it on a host where a guest boots under KVM (`mvm doctor`), or change [launch] in trust.toml if you may"
    said = f"the policy requires hardware virtualization, and {why}"
    return refuse(ReasonCode.HARDWARE_REQUIRED, "the machine's isolation", said, hint)


def known_verdicts(cache: Directory) -> tuple[KvmVerdict, ...]:
    """What probes in this boot of the host found, of whatever hypervisor and kernel; nothing where none ran."""
    found = (_recall(cache, name) for name in cache.names() if name.startswith("kvm-"))
    return tuple(verdict for verdict in found if verdict is not None)


def _recall(cache: Directory, name: str) -> KvmVerdict | None:
    def parse(record: Record) -> KvmVerdict:
        if record.text("boot") != boot_id():
            raise ValueError("it is of another boot")
        return KvmVerdict(usable=record.flag("usable"), seen=record.text("seen"), recalled=True)

    try:
        return read(parse_json(cache.read(name, _VERDICT_LIMIT)), "verdict", parse)
    except (FileNotFoundError, ValueError):
        return None


def kvm_access_hint(device: str) -> str:
    """How the caller gets to open KVM's device, which is used by its group (docs/reference/privileges.md)."""
    opened = f"{shell_command('chgrp', 'kvm', device)} && {shell_command('chmod', '0660', device)}"
    status = os.stat(device)  # noqa: PTH116 - a text
    by_group = status.st_gid != 0 and status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IWGRP
    group, user = _group_name(status.st_gid) if by_group else "kvm", user_name(os.geteuid())
    join = shell_command("usermod", "--append", "--groups", group, user)
    return f"an administrator runs: {join if by_group else f'{opened} && {join}'}; then log in anew"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


class KvmProbe:
    """Probes KVM with one hypervisor; verdicts are kept in `cache` for this boot of the host.

    A kept verdict is a hint about the host, never evidence: a wrong one costs a slow or failing boot, no guarantee.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        jail: Jail,
        cache: Directory,
        *,
        device: str = KVM,
        seconds: float = PROBE_SECONDS,
    ) -> None:
        self._hypervisor = hypervisor
        self._jail = jail
        self._cache = cache
        self._device = device
        self._seconds = seconds

    def open(self) -> int:
        """KVM's device, opened for one hypervisor; the caller closes it."""
        return os.open(self._device, os.O_RDWR | os.O_CLOEXEC)

    def verdict(self, spec: LaunchSpec, kernel: Digest) -> KvmVerdict:
        """Whether KVM boots this machine's kernel, whose digest is `kernel`; probes once for each boot of the host."""
        if not Path(self._device).exists():
            return KvmVerdict(usable=False, seen=f"{self._device} doesn't exist")
        if not os.access(self._device, os.R_OK | os.W_OK):
            return KvmVerdict(usable=False, seen=f"{self._device} may not be opened (`mvm doctor` says how)")
        name = self._name(spec, kernel)
        verdict = _recall(self._cache, name)
        if verdict is None:
            verdict = self._boot(spec)
            record = {"boot": boot_id(), "usable": verdict.usable, "seen": verdict.seen}
            self._cache.write_atomic(name, canonical(record))
        return verdict

    def _name(self, spec: LaunchSpec, kernel: Digest) -> str:
        """A name for this host's boot, hypervisor and kernel.

        The hypervisor counts by its inode and times instead of its digest, which takes 20 ms of each start to compute:
        only root can write the file, and a hint needs no more.
        """
        executable = program_identity(self._hypervisor.invocation(spec).argv[0])
        return f"kvm-{hashlib.sha256(repr((boot_id(), executable, kernel.hex)).encode()).hexdigest()}.json"

    def _boot(self, spec: LaunchSpec) -> KvmVerdict:
        """Boot kernel and initrd under KVM, without a disk, until the agent reports or it is plain that it won't."""
        loop = Loop()
        partial_spec = replace(
            spec,
            rootfs=None,
            vcpus=1,
            memory_mib=min(spec.memory_mib, _PROBE_MEMORY_MIB),
            acceleration=Acceleration.KVM,
        )
        try:
            preparation = Preparation(self._hypervisor, self._jail, replace(partial_spec, kvm=self.open()))
            guest = preparation.spawn(loop, console=lambda _: None, services={})
        except (MvmnixError, OSError) as error:
            loop.close()
            return KvmVerdict(usable=False, seen=f"a probe guest couldn't be started: {error}")
        try:
            guest.channel.wait_hello(idle=self._seconds)
        except ChannelError as error:
            guest.settle(0)
            guest.close()
            words = guest.process.last_words or (error.message,)
            stopped = MonitorEvent.INTERNAL_ERROR in guest.events
            what = "stopped with an internal error" if stopped else "did not boot"
            return KvmVerdict(usable=False, seen=f"a probe guest {what} under KVM ({words[0]})")
        else:
            return KvmVerdict(usable=True, seen="a probe guest booted under KVM")
        finally:
            guest.close()
            loop.close()
