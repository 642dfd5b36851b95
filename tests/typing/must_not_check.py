"""What must not type-check, each line with the error that is expected of it, and beside it a twin that passes.

test_must_not_check.py runs mypy on this file and compares. Nothing here is ever called.
"""

from dataclasses import replace
from datetime import datetime

from mvmnix import Result, Sandbox, Secret, aio
from mvmnix.api import Exec, PlanOptions, stop_machines
from mvmnix.digest import Digest
from mvmnix.keys import PrivateKey, PublicKey, Role
from mvmnix.launch.gate.verify import SignedPlan, Submission, VerifiedPlan, verify_plan
from mvmnix.launch.runtime.host import Host
from mvmnix.launch.runtime.start import start_machine
from mvmnix.model import Image
from mvmnix.plan.plan import Plan
from mvmnix.provenance.bundle.envelope import Bundle, sign
from mvmnix.provenance.bundle.statement import Statement
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import Authentic, authenticate
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.summary import VerifiedSummary
from mvmnix.provenance.verify.verify import Claimed, Verified, verify_provenance
from mvmnix.provenance.verify.vsa import Vsa
from mvmnix.vmm.boot_files import BootFiles, OpenFiles


def only_what_was_verified_starts(
    host: Host, bundle: Bundle, data: bytes, statement: Statement, plan: Plan, verified: VerifiedPlan
) -> None:
    start_machine(data, host)  # E: [arg-type]
    start_machine(bundle, host)  # E: [arg-type]
    start_machine(statement, host)  # E: [arg-type]
    start_machine(plan, host)  # E: [arg-type]
    start_machine(None, host)  # E: [arg-type]
    start_machine(verified, host)


def no_flag_skips_the_verification(host: Host, verified: VerifiedPlan) -> None:
    start_machine(verified, host, verify=False)  # E: [call-arg]
    start_machine(verified, host, trusted=True)  # E: [call-arg]
    start_machine(verified, host, name="hello")


def only_the_verifier_mints_a_verified_plan(
    plan: Plan,
    image: Image,
    provenance: Verified[Provenance],
    signer: Signer,
    digest: Digest,
    need: Isolation,
    files: BootFiles,
) -> None:
    VerifiedPlan(plan, image, provenance, (signer,), digest, need, digest, b"", files, ())  # E: [call-arg]
    VerifiedPlan(plan, image, provenance, (signer,), digest, need, digest, b"", files, (), seal=None)  # E: [arg-type]
    VerifiedPlan(plan, image, provenance, (signer,), digest, need, digest, b"", files, (), seal="")  # E: [arg-type]


def only_the_verifier_mints_evidence(
    claim: Provenance,
    said: Statement,
    plan: Plan,
    summary: Vsa,
    authentic: Authentic,
    signer: Signer,
    policy: TrustPolicy,
    digest: Digest,
) -> None:
    Verified(claim, authentic, 3, digest, ())  # E: [call-arg]
    Verified(claim, authentic, 3, digest, (), seal=object())  # E: [arg-type]
    Claimed(b"", authentic, said, claim, policy, ())  # E: [call-arg]
    Claimed(b"", authentic, said, claim, policy, (), seal=object())  # E: [arg-type]
    SignedPlan(b"", digest, (authentic,), plan, policy, ())  # E: [call-arg]
    SignedPlan(b"", digest, (authentic,), plan, policy, (), seal=object())  # E: [arg-type]
    VerifiedSummary(summary, signer, digest, digest, digest, ())  # E: [call-arg]
    VerifiedSummary(summary, signer, digest, digest, digest, (), seal=object())  # E: [arg-type]
    Authentic(b"", signer, digest)  # E: [call-arg]
    Authentic(b"", signer, digest, seal=object())  # E: [arg-type]


def evidence_is_not_changed(plan: Plan, verified: VerifiedPlan, provenance: Verified[Provenance]) -> None:
    verified.plan = plan  # E: [misc]
    provenance.level = 3  # E: [misc]
    replace(verified, plan=plan)  # E: [call-arg]
    replace(provenance, level=3)  # E: [call-arg]
    replace(plan, vcpus=2)


def evidence_is_not_subclassed() -> None:
    class Forged(VerifiedPlan):  # E: [misc]
        pass

    class Trusted(Verified[Provenance]):  # E: [misc]
        pass

    class Other(Signer):
        pass


def a_claim_is_read_only_after_it_was_verified(bundle: Bundle, authentic: Authentic) -> None:
    _ = bundle.claim  # E: [attr-defined]
    _ = bundle.statement  # E: [attr-defined]
    _ = bundle.signer  # E: [attr-defined]
    payload, signer = authentic.payload, authentic.signer
    del payload, signer


def verification_returns_evidence(
    data: bytes, files: OpenFiles, policy: TrustPolicy, now: datetime, image: Image
) -> None:
    it = ImageEvidence(manifest=data, provenance=data)
    yes: bool = verify_plan(Submission(data, it, files), policy=policy, now=now)  # E: [assignment]
    evidence: VerifiedPlan = verify_plan(Submission(data, it, files), policy=policy, now=now)
    nothing: None = verify_provenance(it, policy=policy, artifacts=(), image=image, now=now)  # E: [assignment]
    claim: Verified[Provenance] = verify_provenance(it, policy=policy, artifacts=(), image=image, now=now)
    del yes, evidence, nothing, claim


def another_claim_is_another_type(plan: Verified[Plan], provenance: Verified[Provenance]) -> None:
    other: Verified[Plan] = provenance  # E: [assignment]
    same: Verified[Plan] = plan
    del other, same


def a_summary_is_no_provenance(summary: VerifiedSummary, provenance: Verified[Provenance]) -> None:
    other: Verified[Provenance] = summary  # E: [assignment]
    same: Verified[Provenance] = provenance
    del other, same


def a_role_is_named(data: bytes, policy: TrustPolicy) -> None:
    authenticate(data, trust=policy.trust, role="planner", what="the plan")  # E: [arg-type]
    authenticate(data, trust=policy.trust, what="the plan")  # E: [call-arg]
    authenticate(data, trust=policy.trust, role=Role.PLANNER, what="the plan")


def keys_are_not_mixed_up(private: PrivateKey, public: PublicKey, data: bytes) -> None:
    sign(data, public)  # E: [arg-type]
    public.sign(data)  # E: [attr-defined]
    sign(data, private)
    public.verified(data, private.sign(data))


def a_command_is_a_list_of_words() -> None:
    Exec("ls -l")  # E: [arg-type]
    PlanOptions(command="ls -l")  # E: [arg-type]
    stop_machines("web")  # E: [arg-type]
    Exec(("ls", "-l"))
    PlanOptions(command=("ls", "-l"))
    stop_machines(["web"])


def a_program_s_command_is_a_list(box: Sandbox, other: aio.Sandbox) -> None:
    box.exec("ls -l")  # E: [call-overload]
    box.popen("ls -l")  # E: [arg-type]
    other.stream("ls -l")  # E: [arg-type]
    box.exec(["ls", "-l"])
    other.stream(["ls", "-l"])


def a_result_is_of_the_type_that_was_asked_for(box: Sandbox) -> None:
    other: Result[bytes] = box.exec(["ls"], text=True)  # E: [assignment]
    same: Result[str] = box.exec(["ls"], text=True)
    also: Result[bytes] = box.exec(["ls"])
    del other, same, also


def a_secret_is_named_by_where_it_lies() -> None:
    Sandbox.run("image:hello", secrets=["hunter2"])  # E: [list-item]
    Sandbox.run("image:hello", memory=3)  # E: [call-arg]
    box = Sandbox.run("image:hello", secrets=[Secret.env("TOKEN")], memory_mib=256)
    box.kill()
