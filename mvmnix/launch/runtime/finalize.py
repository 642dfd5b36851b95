"""The end of a machine: judged, looked into, put into a signed receipt and into the log, whatever end it was."""

import resource
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mvmnix.audit.record import Record, RecordKind
from mvmnix.audit.tally import Tally
from mvmnix.digest import Digest
from mvmnix.errors import GuestTimeoutError, MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats import strict, verity
from mvmnix.formats.escaping import shell_command
from mvmnix.launch.agent.endpoints import Sink, kept_sink
from mvmnix.launch.agent.frames import Hello
from mvmnix.launch.gate.replay import NONCE
from mvmnix.launch.gate.verify import VerifiedPlan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.vm_process import Guest
from mvmnix.launch.snapshots.restored_guest import SnapshotOrigin
from mvmnix.launch.templates.record import TemplateRecord
from mvmnix.machines.console_log import BoundedLog
from mvmnix.machines.diagnosis import Diagnosis, diagnosis_file
from mvmnix.machines.ending import (
    ChannelEnd,
    EndReason,
    HostAction,
    end_words,
    judge_end,
    with_command,
    with_disk,
)
from mvmnix.machines.exit_status import ExitStatus
from mvmnix.machines.machine_dir import MachineHome
from mvmnix.machines.network_log import NetworkLog
from mvmnix.machines.output_log import Output, OutputLog
from mvmnix.machines.receipt import (
    NO_NETWORK,
    Corruption,
    HostFile,
    NetworkUse,
    Observed,
    Receipt,
    ShareRecord,
    receipt_statement,
)
from mvmnix.machines.status import MachineState
from mvmnix.network.host.verdicts import Verdicts
from mvmnix.network.supervisor_messages import NetworkEvent
from mvmnix.plan import network as networking
from mvmnix.plan import share as sharing
from mvmnix.plan.secret_reference import kinds_digest
from mvmnix.sandbox import trusted_executables
from mvmnix.system.child_causes import Cause
from mvmnix.system.process import ProcessError
from mvmnix.vmm.boot_watchdog import StallReason
from mvmnix.vmm.confinement import IsolationLayer
from mvmnix.vmm.port import Acceleration, Invocation, MonitorEvent, Usage

#: How many corrupted blocks an error message names; the receipt has more.
_NAMED: Final = 8
#: By the end of a machine whose time was up, why, and what to do.
_OVERDUE: Final = {
    EndReason.TIMEOUT: ("took too long", "give it more time in the plan's timeouts"),
    EndReason.IDLE: ("did nothing for as long as its plan allows", "give it more time in the plan's limits: --idle"),
}
#: By the end of a machine that the host broke off, why, and what to do.
_BROKEN_OFF: Final = {
    EndReason.SHARE_LIMIT: (
        "wrote more to its shares than its plan allows",
        "let it write more by the plan's limits: --share-limit",
    ),
    EndReason.NETWORK_ENDED: (
        "lost its gateway, without which its plan has it end",
        "see `mvm net log`; or let it go on by the plan: --when-gateway-ends",
    ),
}
_REASONS: Final = {
    StallReason.STALLED: EndReason.BOOT_STALLED,
    StallReason.HUNG: EndReason.TIMEOUT,
    StallReason.PANICKED: EndReason.GUEST_PANIC,
    StallReason.NOT_RESTORED: EndReason.HYPERVISOR_DIED,
}


class MachineFailedError(MvmnixError):
    """The machine ended otherwise than it should; `ended` says how."""

    def __init__(self, message: str, *, hint: str, ended: "Ended") -> None:
        super().__init__(message, hint=hint)
        self.ended = ended


@dataclass(frozen=True, slots=True)
class Ended:
    """How a machine ended. `status` is its command's end as the guest reported it, None when there was none.

    `corrupted` are the numbers of the root filesystem's 4,096-byte blocks that don't hash to the plan's verity root;
    the host looked for them only if the end was not an orderly one. `receipt` is the digest of the signed receipt.
    """

    reason: EndReason
    status: ExitStatus | None
    corrupted: tuple[int, ...]
    receipt: Digest
    receipt_path: str


@dataclass(slots=True)
class RunObservations:
    """What the host gets to know of one machine, from its preparation to its end; written down in the receipt."""

    plan: VerifiedPlan
    host: Host
    home: MachineHome
    invocation: Invocation
    acceleration: Acceleration
    #: What the guest began as, where it didn't boot.
    template: TemplateRecord | None = None
    #: The receipt of the machine that had waited with this guest, where one had.
    waited: Digest | None = None
    #: What the guest goes on from, where it was saved while it ran.
    snapshot: SnapshotOrigin | None = None
    #: Of the secrets that the guest was told, where snapshots may have them (Snapshots.secret_versions).
    secret_versions: tuple[str, ...] = ()
    start_record: int = 0
    start_is_logged: bool = False
    program: HostFile | None = None
    firmware: tuple[HostFile, ...] = ()
    confinement: tuple[IsolationLayer, ...] = ()
    hello: Hello | None = None
    ready: datetime | None = None
    status: ExitStatus | None = None
    last_words: tuple[str, ...] = ()
    child: ProcessError | None = None  # what complained, if any of its processes did
    console: BoundedLog | None = None
    output: OutputLog | None = None
    usage: Usage | None = None
    shares: tuple[ShareRecord, ...] = ()
    tally: Tally = field(default_factory=Tally)
    diagnoses: tuple[Diagnosis, ...] = ()
    verdicts: Verdicts | None = None
    network_log: NetworkLog | None = None

    def record_start(self, nonce: Digest) -> None:
        """Put the start into the log, before it happens; `nonce` is what it spent. Raises what the log raises."""
        digests = {artifact.name.partition(".")[0]: artifact.digest for artifact in self.plan.image.artifacts}
        shares, network = self.plan.plan.shares, self.plan.plan.network
        digests["shares"] = Digest.of(strict.canonical(sharing.to_json(shares)))
        digests["network"] = network.digest if network is not None else NO_NETWORK
        digests["argv"] = self._argv
        if secrets := self.plan.plan.secrets:
            digests["secrets"] = kinds_digest(secrets)
        if self.template is not None:
            digests["template"] = self.template.key
        if self.waited is not None:
            digests["waited"] = self.waited
        if self.snapshot is not None:
            digests["snapshot"] = self.snapshot.statement
        record = self._record(
            RecordKind.START,
            self.home.status.began,
            digests=digests | {"provenance": self.plan.provenance.bundle, NONCE: nonce},
            backend=self.plan.plan.backend.logged,
            expires=self.plan.plan.window.not_after,
            reasons=tuple(sorted({*sharing.acknowledged(shares), *networking.acknowledged(network)})),
        )
        try:
            self.start_record = self.host.journal.append(record).index
        except RefusedError as refused:
            # a required anchor did not take the checkpoint of a record that is in the log
            self.start_is_logged = ReasonCode.ANCHOR_UNAVAILABLE in refused.codes
            raise

    @property
    def _argv(self) -> Digest:
        return Digest.of(strict.canonical(list(self.invocation.argv)))

    def record_restart(self, invocation: Invocation, acceleration: Acceleration) -> None:
        """Put into the log that the last boot came to nothing and why, and that of the same start another one begins.

        To be called before it does, with what will run. Raises what the log raises.
        """
        self.invocation, self.acceleration, self.template, self.waited = invocation, acceleration, None, None
        last = self.diagnoses[-1]
        digests = {"argv": self._argv, "diagnosis": last.digest}
        self.record(RecordKind.RESTART, digests=digests, reasons=(_REASONS[last.verdict],))

    def keep_diagnosis(self, boot: int, verdict: StallReason, data: bytes) -> None:
        """Keep the evidence of a boot that made no progress, if the disk takes it: its digest is in the receipt."""
        kept = Diagnosis(diagnosis_file(boot), verdict, Digest.of(data))
        with suppress(OSError):
            self.home.keep_diagnosis(kept.file, data)
        self.diagnoses += (kept,)

    def record(self, kind: RecordKind, **more: Any) -> None:
        """Put into the log what happens to the machine while it runs. Raises what the log raises."""
        self.host.journal.append(self._record(kind, self.host.clock(), **more))

    def _record(self, kind: RecordKind, time: datetime, **more: Any) -> Record:
        it = self.home.status
        return Record(kind=kind, time=time, machine=it.machine, plan=it.plan, policy=it.policy, **more)

    def record_end(self, reason: EndReason, digests: Mapping[str, Digest], now: datetime) -> None:
        """Put into the log what was refused to the guest, and the end; that into the status too. Raises as the log."""
        exit_code = None if self.status is None else self.status.exit_code
        record = self._record(RecordKind.END, now, digests=digests, reasons=end_words(reason), exit_code=exit_code)
        tallies = [self.tally, *([] if self.verdicts is None else [self.verdicts.denials])]
        for reasons, count in (each for tally in tallies for each in tally.counts.items()):
            self.host.journal.append(self._record(RecordKind.REFUSAL, now, reasons=reasons, count=count))
        self.host.journal.append(record)
        self.home.keep_end(self.host.journal.vouch(record))
        self.home.advance(MachineState.ENDED, reason=reason, exit_code=exit_code)

    def open_console(self) -> BoundedLog:
        """The console's log in the machine's directory, the same one for each boot."""
        if self.console is None:
            self.console = self.home.console(self.plan.plan.limits.console_kib)
        return self.console

    def keep_outputs(self, stdout: Sink, stderr: Sink, *, attached: bool = True) -> tuple[Sink, Sink]:
        """The same ends of the command's outputs; what comes is kept in the machine's directory, until it has ended.

        Where a caller is `attached` and the guest has secrets, nothing is kept unless the plan says how much: a secret
        that is printed goes to the caller alone. Nor is what a guest prints that goes on from a snapshot, for it may
        have begun so.
        """
        kib = self.plan.plan.limits.output_kib
        if kib is None and (attached or self.snapshot is not None) and self.plan.plan.secrets:
            kib = 0
        self.output = log = self.output or self.home.output(kib)
        return kept_sink(stdout, log.keep(Output.STDOUT)), kept_sink(stderr, log.keep(Output.STDERR))

    def take_network_event(self, event: NetworkEvent) -> None:
        """Keep a verdict about the guest's network, and count it. Raises what the log does, for a rule's first use."""
        if (network := self.plan.plan.network) is None:
            return
        machine = self.home.status.machine
        if self.verdicts is None:
            self.verdicts = Verdicts(network, machine, self._record_first_use, self.host.notice)
        if self.network_log is None:
            self.network_log = self.home.network_log()
        self.network_log.write(self.host.clock(), machine, event)
        self.verdicts.take(event)

    def _record_first_use(self, place: int) -> None:
        self.record(RecordKind.NETWORK, reasons=("first-use", f"rule-{place}"))

    def look_at(self, guest: Guest) -> None:
        """Take the digests of what runs, while the guest boots: of the very program that the kernel executes."""
        self.confinement = guest.process.layers
        path = self.invocation.argv[0]
        self.program = HostFile(path, guest.process.executable() or trusted_executables.digest(path))
        self.shares = guest.shares.shared
        firmware = self.host.hypervisor.firmware
        self.firmware = tuple(HostFile(path, trusted_executables.digest(path)) for path in firmware)

    def close(self) -> None:
        """Let go of the directory, and with it of the lock: no process supervises this machine any more."""
        for log in (self.console, self.output, self.network_log):
            if log is not None:
                log.close()
        self.home.close()


def conclude(
    observations: RunObservations, action: HostAction, last_word: ChannelEnd, events: Collection[MonitorEvent]
) -> Ended:
    """Judge the end, look for its cause on the disk, sign the receipt, log it; the hypervisor is gone already.

    Raises MvmnixError when the receipt or the log can't be written. The machine has ended all the same.
    """
    try:
        reason = with_command(judge_end(action, last_word, events), observations.status)
        corrupted = (
            () if reason.is_clean else verity.find_corruption(observations.plan.rootfs, observations.plan.plan.verity)
        )
        reason = with_disk(reason, corrupted)
        finished = observations.host.clock()
        looked = None if reason.is_clean else Corruption.of(corrupted)
        bundle = observations.host.sign(_receipt(observations, reason, looked, finished))
        ended = Ended(reason, observations.status, corrupted, Digest.of(bundle), observations.home.keep_receipt(bundle))
        observations.record_end(reason, {"receipt": ended.receipt}, finished)
    finally:
        observations.close()
    return ended


def never_ran(observations: RunObservations, reason: EndReason) -> None:
    """Log the end of a machine whose hypervisor wasn't started: the log says already that it would be."""
    try:
        observations.record_end(reason, {}, observations.host.clock())
    finally:
        observations.close()


def end_failure(ended: Ended, observations: RunObservations, words: str) -> MvmnixError:
    """What a caller who waited for the guest is told; `words` are the channel's about its end."""
    machine, where = observations.home.status.machine, f"its console is in {observations.home.where}"
    match ended.reason:
        case EndReason.TIMEOUT | EndReason.IDLE:
            why, hint = _OVERDUE[ended.reason]
            return GuestTimeoutError(f"the machine {machine} {why} and was ended", hint=f"{where}; {hint}")
        case EndReason.BOOT_STALLED:
            message = f"the machine {machine} took too long to boot, since it stalled, and was ended"
            hint = f"{where}, beside {', '.join(it.file for it in observations.diagnoses)}"
            return GuestTimeoutError(message, hint=hint)
        case EndReason.COOLED:
            message = f"the machine {machine} was cooled before its command had ended"
            return MachineFailedError(
                message, hint=f"{shell_command('mvm', 'thaw', machine)} has it go on", ended=ended
            )
        case EndReason.SHARE_LIMIT | EndReason.NETWORK_ENDED:
            why, hint = _BROKEN_OFF[ended.reason]
            last = "".join(f"\n  {line}" for line in observations.last_words[-10:])
            message = f"the machine {machine} {why}, and was ended{last}"
            return MachineFailedError(message, hint=f"{where}; {hint}", ended=ended)
        case EndReason.VERITY_CORRUPTION:
            named = ", ".join(map(str, ended.corrupted[:_NAMED])) + (", …" if len(ended.corrupted) > _NAMED else "")
            why = f"{len(ended.corrupted)} of its blocks aren't those that were signed: {named}"
            hint = f"build or fetch the image again; the receipt {ended.receipt_path} names the blocks"
            return refuse(ReasonCode.VERITY_MISMATCH, "the root filesystem", why, hint)
        case _:
            return _guest_failure(ended, observations, words)


def _guest_failure(ended: Ended, observations: RunObservations, words: str) -> MachineFailedError:
    """Report a guest that ended itself, with the last lines of its console unless `words` explain the end in full."""
    child, where = observations.child, f"{_address_space()}its console is in {observations.home.where}"
    hint = where if child is None or child.kind is Cause.OWN else f"{child.hint}; {where}"
    console = () if observations.console is None else observations.console.last_lines()
    if ended.reason is EndReason.MOUNT_POINT:
        console, hint = (), "name another place in the guest: --share SRC:DST, --data SIZE:PATH"
    lines = (*observations.last_words, *console)[-10:]
    first = "" if child is None else child.cause.strip()
    last = "\n".join(f"  {line}" for line in (lines if first in ("", *lines) else (first, *lines[1:])))
    message = f"the machine {observations.home.status.machine} ended: {ended.reason} ({words})"
    failed = MachineFailedError(f"{message}\n{last}" if last else message, hint=hint, ended=ended)
    failed.__cause__ = child
    return failed


def _address_space() -> str:
    """The bound that a hypervisor here inherits, for the lack of room has many texts in what it says (RLIMIT_AS)."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "" if limit == resource.RLIM_INFINITY else f"its memory is limited to {limit} bytes (ulimit -v); "


def _network(observations: RunObservations) -> NetworkUse | None:
    """What the receipt says of the network: the rules that held, and what is kept of the verdicts; None without one."""
    if (network := observations.plan.plan.network) is None:
        return None
    log = observations.network_log
    proxy = "" if network.proxy is None else network.proxy.typed
    return NetworkUse(network.digest, Digest.of(b"") if log is None else log.close(), proxy)


def _receipt(observations: RunObservations, reason: EndReason, corruption: Corruption | None, ended: datetime) -> bytes:
    if observations.program is None:
        raise ValueError("a machine whose hypervisor never ran has no receipt")
    status = observations.home.status
    observed = Observed(
        machine=status.machine,
        started=status.began,
        ready=observations.ready,
        ended=ended,
        accelerator=observations.acceleration,
        hypervisor=observations.program,
        firmware=observations.firmware,
        confinement=observations.confinement,
        additions=observations.invocation.additions,
        reason=reason,
        corruption=corruption,
        start_record=observations.start_record,
        usage=observations.usage,
        console_bytes=0 if observations.console is None else observations.console.seen,
        backend=observations.plan.plan.backend,
        shares=observations.shares,
        diagnoses=observations.diagnoses,
        network=_network(observations),
        template=None if observations.template is None else observations.template.machine,
        snapshot=None if observations.snapshot is None else observations.snapshot.statement,
    )
    receipt = Receipt(
        subjects=observations.plan.plan.subjects,
        plan=observations.plan.digest,
        provenance=observations.plan.provenance.bundle,
        policy=observations.plan.policy,
        observed=observed,
        reported=observations.status,
    )
    return receipt_statement(receipt).to_bytes()
