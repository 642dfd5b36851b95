"""Verifies a snapshot and the plan that it is of, in numbered steps; mints VerifiedSnapshot and VerifiedImport.

Steps 1 to 5, who signed it, are those of provenance/verify/authentication.py, for the role `host`: it is this host's
key, and neither that nor the bundle nor the statement in it is revoked. Only then is it read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is a snapshot, and it is about one file, the sealed one;
8. it has every field in its bounds, and no other field.

Then it is held against time, policy, this host and the plan's bytes; nothing of the plan is read before:

9. the plan that was handed in is the one that it names, by the digest of its bytes;
10. it was made before now, and not before the time that the policy names;
11. it was made under the policy that is in force, by the digest of the policy's bytes; and where this host imported it,
    the policy takes such snapshots, and still trusts, by steps 1 to 5, who exported it: that bundle lies beside it;
12. this host is as it was then: not booted since, with a time stamp counter of that frequency, the same hypervisor,
    firmware and other files that it reads, by their digests, and the same machine type and processor for the guest;
13. its guest's agent speaks this mvm's protocol, and is one that can be frozen and renewed.

14. The plan passes all of its steps (verify.py): its window, today's policy and what is revoked count anew.

At last it is held against the plan:

15. it is of that plan's image, by manifest and files, and of a machine of its shape, kernel command line and network,
    whose guest had as many secrets;
16. the plan grants the verb `snapshot`, and its machines can have one (launch/snapshots/statement.py, `unfit`);
17. where the plan starts one machine at most, this one ended with the snapshot.

The sealed file itself is held against the statement when it is opened (launch/snapshots/store.py, `unseal`),
and the versions of its secrets against what the plan's references lead to then (launch/runtime/restore.py).

A snapshot that another host exported takes the same steps when it is imported (`verify_import`), but these. Any
signer may have signed it to whom the policy gives the role `host`. Another host made it under a policy of its own: in
step 11 the one in force has to take such snapshots; what this host exported counts by its policy as ever. What that
host starts isn't known here: in step 17 the plan has to start more than one machine, and the snapshot may not have been
imported there, and its guest has no secrets, whose versions are told by the key of the host that made it. One that is
exported takes that step, too (`verify_export`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self, final

from mvmnix.digest import Digest
from mvmnix.errors import Reason, ReasonCode, RefusedError, StepResult, refuse
from mvmnix.formats.strict import show_time
from mvmnix.keys import PublicKey, Role
from mvmnix.launch.agent.frames import PROTOCOL_VERSION
from mvmnix.launch.gate.verify import Submission, VerifiedPlan, verify_plan
from mvmnix.launch.snapshots import statement as snapshots
from mvmnix.launch.snapshots.statement import SnapshotClaim
from mvmnix.machines.receipt import HostFile
from mvmnix.model import Verb
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.identity.trust import Signer, Trust
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.verify.authentication import Authentic, authenticate, only_refusals
from mvmnix.provenance.verify.step_results import Steps
from mvmnix.sealed import Seal, Sealed
from mvmnix.vmm.tsc import is_same_frequency

_WHAT: Final = "the snapshot"
_AGAIN: Final = "start a machine, and take a snapshot anew"

_SEAL: Final = Seal()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """This host as it is now: its public key, and what a guest depends on, as SnapshotClaim has it."""

    key: PublicKey
    boot: str
    tsc_khz: int
    programs: tuple[HostFile, ...]
    machine_type: str
    processor: str


@dataclass(frozen=True, slots=True)
class SnapshotSubmission:
    """What is handed in: the snapshot's bundle, and the plan with its image, as they are for a start.

    `imported` is the bundle under which another host exported it, b"" for one that was taken here.
    """

    bundle: bytes
    plan: Submission
    imported: bytes = b""


@final
@_SEAL.of("verify_snapshot()")
@dataclass(frozen=True, slots=True, eq=False)
class VerifiedSnapshot(Sealed):
    """A snapshot that passed every step, and its plan, verified for this one restore.

    `signer` signed it, `bundle` is the statement as it was signed, `digest` that of these bytes; `steps` are those that
    were taken. Sealed: only `verify_snapshot` makes it. A context manager that owns the plan, and closes it.
    """

    claim: SnapshotClaim
    plan: VerifiedPlan
    signer: Signer
    digest: Digest
    bundle: bytes
    steps: tuple[StepResult, ...]

    def close(self) -> None:
        """Close the plan. A second call does nothing."""
        self.plan.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
@_SEAL.of("verify_import()")
@dataclass(frozen=True, slots=True, eq=False)
class VerifiedImport(Sealed):
    """An exported snapshot that may be kept here, under a statement of this host's; no machine starts from it as it is.

    `policy` is the digest of the policy that admitted it; the others as in VerifiedSnapshot.
    """

    claim: SnapshotClaim
    signer: Signer
    digest: Digest
    policy: Digest
    steps: tuple[StepResult, ...]


@dataclass(frozen=True, slots=True)
class AuthenticSnapshot:
    """A snapshot's claim, its bundle authentic, and what it is held against before its plan is read.

    `signer` signed it; `imported` is the exporter's bundle, of which nothing is known.
    """

    claim: SnapshotClaim
    signer: Signer
    imported: bytes
    plan: Digest
    policy: TrustPolicy
    now: datetime
    host: HostFacts


def step_6_statement(authentic: Authentic) -> Statement:
    """6. An in-toto statement."""
    return statement.parse(authentic.payload)


def step_7_predicate_type(claim: Statement) -> None:
    """7. A snapshot, and not for instance a receipt, which the same key signs."""
    if claim.predicate_type != snapshots.PREDICATE_TYPE:
        why = f"its predicate is {claim.predicate_type!r}, not {snapshots.PREDICATE_TYPE!r}"
        raise refuse(ReasonCode.PREDICATE_TYPE, _WHAT, why, "hand in the snapshot's bundle")


def step_8_snapshot(claim: Statement) -> SnapshotClaim:
    """8. Every field in its bounds."""
    return snapshots.from_statement(claim)


def step_9_plan_bytes(given: AuthenticSnapshot) -> Iterator[Reason]:
    """9. This plan and no other."""
    if given.claim.plan != given.plan:
        why = f"it is of the plan {given.claim.plan}, got {given.plan}"
        yield Reason(ReasonCode.SNAPSHOT_MISMATCH, _WHAT, why, "hand in the plan that lies beside it")


def step_10_time(given: AuthenticSnapshot) -> Iterator[Reason]:
    """10. Neither older than the policy takes it, nor of a time that isn't yet."""
    made, since = given.claim.created, given.policy.freshness.snapshots_not_before
    if made > given.now:
        why = f"it was made at {show_time(made)}, and now it is {show_time(given.now)}"
        yield Reason(ReasonCode.SNAPSHOT_ROLLBACK, _WHAT, why, "set the clock")
    if since is not None and made < since:
        why = f"it was made at {show_time(made)}, and the policy takes none from before {show_time(since)}"
        yield Reason(
            ReasonCode.SNAPSHOT_ROLLBACK, _WHAT, why, f"{_AGAIN}; or look at snapshots-not-before in trust.toml"
        )


def step_11_policy(given: AuthenticSnapshot) -> Iterator[Reason]:
    """11. The very bytes of the policy in force."""
    if given.claim.policy != given.policy.digest:
        why = f"it was made under policy {given.claim.policy}; the current policy is {given.policy.digest}"
        yield Reason(ReasonCode.SNAPSHOT_POLICY, _WHAT, why, f"look at trust.toml, then {_AGAIN}")

    if given.claim.imported is not None:
        yield from _refused_imports(given.policy)
        yield from _exporter(given, given.claim.imported)


def step_11_imports(given: AuthenticSnapshot) -> Iterator[Reason]:
    """11. At an import: the policy takes snapshots that others exported; this host's own are of this policy."""
    yield from _refused_imports(given.policy)
    if given.signer.fingerprint == given.host.key.fingerprint:
        yield from step_11_policy(given)


def _refused_imports(policy: TrustPolicy) -> Iterator[Reason]:
    if not policy.imported_snapshots:
        hint = "if those are meant, say so in [launch] of trust.toml: imported-snapshots = true"
        yield Reason(ReasonCode.SNAPSHOT_POLICY, _WHAT, "the policy takes none that another host exported", hint)


def _exporter(given: AuthenticSnapshot, imported: Digest) -> Iterator[Reason]:
    """Why the policy doesn't trust, or not any more, who exported it."""
    what = "the exported snapshot"
    try:
        found = authenticate(given.imported, trust=given.policy.trust, role=Role.HOST, what=what)
    except RefusedError as refused:
        yield from refused.reasons
        return
    if found.digest != imported:
        why = f"its statement names {imported}, and {found.digest} lies beside it"
        yield Reason(ReasonCode.SNAPSHOT_MISMATCH, what, why, _AGAIN)


def step_12_host(given: AuthenticSnapshot) -> Iterator[Reason]:
    """12. What the guest goes on upon is what it was saved from."""
    claim, host = given.claim, given.host
    found = [
        (claim.boot != host.boot, "the host has booted since it was made"),
        (
            not is_same_frequency(claim.tsc_khz, host.tsc_khz),
            f"its guest was told of a time stamp counter with {claim.tsc_khz} kHz, and this host's has {host.tsc_khz}",
        ),
        *_program_differences(claim.programs, host.programs),
        (
            claim.machine_type != host.machine_type,
            f"its machine is of the type {claim.machine_type!r}, and one here would be {host.machine_type!r}",
        ),
        (
            claim.processor != host.processor,
            f"its processor is {claim.processor!r}, and one here would be {host.processor!r}",
        ),
    ]
    yield from (Reason(ReasonCode.SNAPSHOT_HOST, _WHAT, why, _AGAIN) for differs, why in found if differs)


def _program_differences(then: tuple[HostFile, ...], now: tuple[HostFile, ...]) -> Iterator[tuple[bool, str]]:
    before, here = ({each.path: each.digest for each in programs} for programs in (then, now))
    for path in sorted(before.keys() | here.keys()):
        if path not in here:
            yield True, f"the hypervisor read {path}, and doesn't any more"
        elif path not in before:
            yield True, f"the hypervisor reads {path}, and didn't when it was made"
        else:
            yield before[path] != here[path], f"{path} was {before[path]} when it was made, and is {here[path]}"


def step_13_agent(given: AuthenticSnapshot) -> Iterator[Reason]:
    """13. A guest that can be told who it is before it goes on."""
    hello = given.claim.hello
    if hello.version != PROTOCOL_VERSION:
        why = f"its guest's agent speaks version {hello.version} of the protocol, and mvm {PROTOCOL_VERSION}"
        yield Reason(ReasonCode.SNAPSHOT_HOST, _WHAT, why, f"build the image again, {_AGAIN}")
    if not hello.freezes_commands:
        why = f"its guest's agent, version {hello.agent!r}, can't be renewed before its commands go on"
        yield Reason(ReasonCode.SNAPSHOT_HOST, _WHAT, why, f"build the image again, {_AGAIN}")


def step_14_plan(plan: Submission, policy: TrustPolicy, now: datetime) -> VerifiedPlan:
    """14. The plan, as if a machine were to boot from it."""
    return verify_plan(plan, policy=policy, now=now)


def step_15_agreement(claim: SnapshotClaim, plan: Plan) -> Iterator[Reason]:
    """15. What plan and snapshot both say, they say alike."""
    for name, ours, theirs in (
        ("manifest", claim.manifest, plan.manifest),
        ("image name", claim.image, plan.image),
        ("files", _shown(claim.files), _shown(plan.subjects)),
        ("number of processors", claim.vcpus, plan.vcpus),
        ("memory in MiB", claim.memory_mib, plan.memory_mib),
        ("data disk in MiB", claim.data_mib, 0 if plan.data is None else plan.data.size_mib),
        ("kernel command line", claim.command_line, plan.command_line),
        ("network", claim.network, plan.network is not None),
        ("number of secrets", len(claim.secrets), len(plan.secrets)),
    ):
        if ours != theirs:
            why = f"its {name} is {ours!s}, the plan's {theirs!s}"
            yield Reason(ReasonCode.SNAPSHOT_MISMATCH, _WHAT, why, _AGAIN)


def _shown(subjects: tuple[statement.Subject, ...]) -> str:
    return ", ".join(f"{subject.name} {subject.digest}" for subject in subjects)


def step_16_granted(_claim: SnapshotClaim, plan: Plan) -> Iterator[Reason]:
    """16. The plan says that its machines may be kept, and they can be."""
    if Verb.SNAPSHOT not in plan.verbs:
        hint = "start another one with `mvm run --verb snapshot`, or plan it so: `mvm plan create --verb snapshot`"
        yield Reason(ReasonCode.VERB_NOT_GRANTED, Verb.SNAPSHOT, "the plan doesn't grant this verb", hint)
    if why := snapshots.unfit(plan):
        yield Reason(ReasonCode.SNAPSHOT_FORBIDDEN, _WHAT, why, "start a machine that boots")


def step_17_once(claim: SnapshotClaim, plan: Plan) -> Iterator[Reason]:
    """17. Of a plan for once there is one machine at a time, however often it is cooled and thawed."""
    if plan.use.is_single and not claim.ended_with:
        why = "its plan starts one machine at most, and that went on after the snapshot"
        yield Reason(ReasonCode.SNAPSHOT_FORBIDDEN, _WHAT, why, "make and sign a plan that starts more than one")


def step_17_moved(claim: SnapshotClaim, plan: Plan) -> Iterator[Reason]:
    """17. At an import and an export: nothing that another host can't know, or has a part in."""
    if claim.imported is not None:
        why = "it was imported, and who exported it first isn't known where it would go"
        yield Reason(ReasonCode.SNAPSHOT_FORBIDDEN, _WHAT, why, "have that host export it")
    if plan.use.is_single:
        why = "its plan starts one machine at most, and that may be on either of two hosts"
        yield Reason(ReasonCode.SNAPSHOT_FORBIDDEN, _WHAT, why, "make and sign a plan that starts more than one")
    if claim.secrets:
        why = "its guest was told secrets, and whether they are those of today another host can't know"
        yield Reason(ReasonCode.SNAPSHOT_FORBIDDEN, _WHAT, why, "start a machine on that host")


type _ClaimStep = Callable[[AuthenticSnapshot], Iterator[Reason]]
type _PlanStep = Callable[[SnapshotClaim, Plan], Iterator[Reason]]
#: What it is held against: the policy, the time, this host.
type _Given = tuple[TrustPolicy, datetime, HostFacts]

CLAIM_STEPS: tuple[_ClaimStep, ...] = (
    step_9_plan_bytes,
    step_10_time,
    step_11_policy,
    step_12_host,
    step_13_agent,
)
PLAN_STEPS: tuple[_PlanStep, ...] = (
    step_15_agreement,
    step_16_granted,
    step_17_once,
)
IMPORT_CLAIM_STEPS: Final = tuple(step_11_imports if step is step_11_policy else step for step in CLAIM_STEPS)
#: At an import and an export; `step_17_moved` refuses all that `step_17_once` does.
MOVED_PLAN_STEPS: Final = tuple(step_17_moved if step is step_17_once else step for step in PLAN_STEPS)


def verify_snapshot(
    submission: SnapshotSubmission, *, policy: TrustPolicy, now: datetime, host: HostFacts
) -> VerifiedSnapshot:
    """Take a snapshot and its plan through all steps, under the policy in force, at a time with its zone.

    Raises RefusedError with every reason of the group of steps in which one was found; whatever was opened is closed
    again then.
    """
    return _own(submission, (policy, now, host), PLAN_STEPS)


def verify_export(
    submission: SnapshotSubmission, *, policy: TrustPolicy, now: datetime, host: HostFacts
) -> VerifiedSnapshot:
    """Verify a snapshot as `verify_snapshot` does, and that it may be on two hosts. Raises as that does."""
    return _own(submission, (policy, now, host), MOVED_PLAN_STEPS)


def verify_import(
    submission: SnapshotSubmission, *, policy: TrustPolicy, now: datetime, host: HostFacts
) -> VerifiedImport:
    """Take a snapshot that another host exported, and its plan, through the steps of an import.

    Raises as `verify_snapshot` does.
    """
    with only_refusals(_WHAT):
        authentic = authenticate(submission.bundle, trust=policy.trust, role=Role.HOST, what=_WHAT)
        given = policy, now, host
        with _taken(authentic, submission, given, IMPORT_CLAIM_STEPS, MOVED_PLAN_STEPS) as (claim, plan, steps):
            plan.close()
            return VerifiedImport(claim, authentic.signer, authentic.digest, policy.digest, steps, seal=_SEAL)


def _own(submission: SnapshotSubmission, given: _Given, plan_steps: tuple[_PlanStep, ...]) -> VerifiedSnapshot:
    """Verify a snapshot that this host signed."""
    policy, _, host = given
    with only_refusals(_WHAT):
        trust = Trust((Signer("host", host.key, frozenset({Role.HOST})),), revocations=policy.trust.revocations)
        authentic = authenticate(submission.bundle, trust=trust, role=Role.HOST, what=_WHAT)
        with _taken(authentic, submission, given, CLAIM_STEPS, plan_steps) as (claim, plan, steps):
            by = (authentic.signer, authentic.digest, submission.bundle)
            return VerifiedSnapshot(claim, plan, *by, steps, seal=_SEAL)


@contextmanager
def _taken(
    authentic: Authentic,
    submission: SnapshotSubmission,
    given: _Given,
    claim_steps: tuple[_ClaimStep, ...],
    plan_steps: tuple[_PlanStep, ...],
) -> Iterator[tuple[SnapshotClaim, VerifiedPlan, tuple[StepResult, ...]]]:
    """Take all steps behind the signature; the plan is closed again where one refuses. Raises RefusedError."""
    policy, now, host = given
    taken = Steps("snapshot", authentic.steps)
    parsed = taken.need(step_6_statement, authentic)
    taken.need(step_7_predicate_type, parsed)
    claim = taken.need(step_8_snapshot, parsed)
    by, plan = (authentic.signer, submission.imported), submission.plan
    taken.take_each(claim_steps, AuthenticSnapshot(claim, *by, plan.digest, policy, now, host))
    taken.require()
    verified = taken.need(step_14_plan, plan, policy, now)
    try:
        taken.consists_of(verified.steps)
        taken.take_each(plan_steps, claim, verified.plan)
        taken.require()
        yield claim, verified, taken.results
    except BaseException:
        verified.close()
        raise
