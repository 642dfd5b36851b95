"""Verifies a plan with everything it stands on, in numbered steps; the only minter of VerifiedPlan.

Steps 1 to 5, who signed it, are those of provenance/verify/authentication.py, for the role `planner`; a plan that
several signed is several bundles, and each of them is taken through. Only then is it read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is a plan;
8. the plan has every field in its bounds, and no other field.

Then it is held against time, policy and the other bytes that were handed in; nothing of the image is read before:

9. now is within its window;
10. it was made under the policy that is in force, by the digest of the policy's bytes;
11. it asks for the isolation that the policy requires, or a stronger one, and not for emulation where the policy
    requires hardware virtualization; whether this host has that is settled when the machine starts
    (launch/runtime/start.py);
12. its kernel command line can neither be cut off nor read in two ways;
13. it is about this manifest.json, by the digest of its bytes;
14. it was made with this provenance bundle, by the digest of its bytes (or see step 23);
15. as many signers as the policy asks for have signed it, these very bytes, and none of them, nor any key, twice;
16. the policy has not expired;
17. it is valid for no longer, and has been for no longer, than the policy accepts;
18. neither it nor a file that it is about is revoked.

Then the manifest is read, and the image's files are looked at:

19. the plan's subjects are the files that the manifest names;
20. name, verity parameters, kernel command line, posture and verbs are the manifest's, or narrower;
21. kernel and initrd have the digests of the manifest; they are copied into sealed memory while they are hashed;
22. the rootfs has the size, the superblock and the top hash block that the signed verity parameters make;
23. the provenance passes all of its steps (provenance/verify/verify.py) for these files, this manifest and this
    flake.lock; or a summary (VSA) that was handed in instead passes all of its own (provenance/verify/summary.py) for
    these files, this manifest and the provenance that the plan names.

Step 23 takes the rootfs's digest from the signed manifest: no gigabyte is hashed at launch, for every block of it is
tied to the verity root of step 20, by step 22 and by the guest's kernel when it reads the block.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self, final

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, StepResult
from mvmnix.formats import manifest as manifest_file
from mvmnix.launch.gate import checks, signatures
from mvmnix.launch.gate.checks import AuthenticPlan, InputDigests, PlanWithImage, SummarizedImage
from mvmnix.model import Image
from mvmnix.plan.plan import Plan
from mvmnix.provenance.identity.trust import Signer
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import Provenance
from mvmnix.provenance.verify.authentication import Authentic, only_refusals
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.step_results import Steps
from mvmnix.provenance.verify.summary import VerifiedSummary
from mvmnix.provenance.verify.verify import Verified
from mvmnix.sealed import Seal, Sealed
from mvmnix.vmm.boot_files import BootFiles, OpenFiles

_WHAT: Final = "the plan"

_SEAL: Final = Seal()


@final
@_SEAL.of("verify_plan()")
@dataclass(frozen=True, slots=True, eq=False)
class VerifiedPlan(Sealed):
    """A plan that passed every step, the evidence for it, and the descriptors that its machine boots from.

    `signers` are all who signed it, `policy` is the digest of the policy in force, `required` the isolation that this
    policy requires, `bundle` the plan as it was signed, one or several, `digest` that of these bytes; `steps`
    are those that were taken. Sealed: only `verify_plan` makes it. A context manager that owns its descriptors. Neither
    copied nor pickled: another process forks from it, or verifies.
    """

    plan: Plan
    image: Image
    provenance: Verified[Provenance] | VerifiedSummary
    signers: tuple[Signer, ...]
    policy: Digest
    required: Isolation
    digest: Digest
    bundle: bytes
    files: BootFiles
    steps: tuple[StepResult, ...]

    @property
    def kernel(self) -> int:
        """Descriptor of the kernel's sealed copy. Raises MvmnixError once `kernel_loaded` was called, in a fork too."""
        fd = self.files["kernel"]
        if os.fstat(fd).st_size != self.image.kernel.size:
            raise MvmnixError("a machine has started from this plan, and has its kernel", hint="verify the plan anew")
        return fd

    @property
    def initrd(self) -> int:
        """Descriptor of the initrd's sealed copy."""
        return self.files["initrd"]

    @property
    def rootfs(self) -> int:
        """Descriptor of the root filesystem, for reading."""
        return self.files["rootfs"]

    def kernel_loaded(self) -> None:
        """Give back the memory of the kernel's copy: a machine has booted from it, and no other one will.

        A second call does nothing.
        """
        self.files.give_back("kernel")

    def close(self) -> None:
        """Close the descriptors. A second call does nothing."""
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
@_SEAL.of("read_plan()")
@dataclass(frozen=True, slots=True)
class SignedPlan(Sealed):
    """What the bundles of a plan say, trusted or not: steps 1 to 8 passed, under this policy.

    `data` are the bundles, `digest` is that of these, `signed` each of them. Sealed: `read_plan` makes it.
    """

    data: bytes
    digest: Digest
    signed: tuple[Authentic, ...]
    plan: Plan
    policy: TrustPolicy
    steps: tuple[StepResult, ...]

    @property
    def named(self) -> InputDigests:
        """The digests of what it names, for steps 13 and 14 where nothing was handed in but the plan."""
        return InputDigests(self.digest, self.plan.manifest or Digest.of(b""), self.plan.provenance)


def read_plan(data: bytes, policy: TrustPolicy) -> SignedPlan:
    """Take a plan, a bundle or several, joined by newlines, through steps 1 to 8. Raises RefusedError."""
    with only_refusals(_WHAT):
        signed = signatures.gather(data, policy.trust)
        taken = Steps("plan", (step for each in signed for step in each.steps))
        first, *_ = signed
        claim = taken.need(checks.step_6_statement, first)
        taken.need(checks.step_7_predicate_type, claim)
        plan = taken.need(checks.step_8_plan, claim)
        return SignedPlan(data, Digest.of(data), signed, plan, policy, taken.results, seal=_SEAL)


def verify_plan_without_image(it: SignedPlan, handed: InputDigests, now: datetime) -> Steps:
    """Take a plan through steps 9 to 18; returns what was found so far. Raises RefusedError."""
    with only_refusals(_WHAT):
        taken, sheet = Steps("plan", it.steps), AuthenticPlan(it.plan, it.signed, it.policy, handed, now)
        taken.take_each(checks.SHEET_STEPS, sheet)
        taken.require()
        return taken


@dataclass(frozen=True, slots=True)
class Submission:
    """What is handed in to the gate: a plan, the image's evidence or a verifier's word for it, and its open files.

    `plan` is what `read_plan` takes, a bundle or several, or what it returned.
    """

    plan: bytes | SignedPlan
    image: ImageEvidence | SummarizedImage
    files: OpenFiles

    @property
    def digest(self) -> Digest:
        """That of the plan's bytes."""
        return self.plan.digest if isinstance(self.plan, SignedPlan) else Digest.of(self.plan)


def verify_plan(it: Submission, *, policy: TrustPolicy, now: datetime) -> VerifiedPlan:
    """Take a plan through all steps, under the policy in force, at a time with its zone.

    Raises RefusedError with every reason of the group of steps in which one was found; whatever was opened is closed
    again then. ValueError for a plan that was read under another policy.
    """
    with only_refusals(_WHAT):
        claim = it.plan if isinstance(it.plan, SignedPlan) else read_plan(it.plan, policy)
        if claim.policy != policy:
            raise ValueError("the plan was read under another policy")
        evidence = None if isinstance(it.image, SummarizedImage) else Digest.of(it.image.provenance)
        taken = verify_plan_without_image(
            claim, InputDigests(claim.digest, Digest.of(it.image.manifest), evidence), now
        )
        image = manifest_file.parse(it.image.manifest)
        boot = BootFiles()
        try:
            candidate = PlanWithImage(claim.plan, image, it.files, it.image, policy, now)
            found, signers = _look(candidate, boot, taken), tuple(each.signer for each in claim.signed)
            boot.complete()
            by = (policy.digest, policy.isolation, claim.digest)
            return VerifiedPlan(claim.plan, image, found, signers, *by, claim.data, boot, taken.results, seal=_SEAL)
        except BaseException:
            boot.close()
            raise


def _look(it: PlanWithImage, boot: BootFiles, taken: Steps) -> Verified[Provenance] | VerifiedSummary:
    """Steps 19 to 23; all of them are taken, whatever the others say."""
    taken.take_each(checks.IMAGE_STEPS, it)
    taken.take_each(checks.FILE_STEPS, it, boot)
    evidence = taken.need(checks.step_23_provenance, it)
    taken.consists_of(evidence.steps)
    taken.require()
    return evidence
