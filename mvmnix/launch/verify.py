"""Verifies a plan with everything it stands on, in numbered steps; the only minter of VerifiedPlan.

Steps 1 to 5, who signed it, are those of provenance/authenticate.py, for the role `planner`. Only then is it read:

6. it is an in-toto statement, version 1, without duplicate or unknown fields;
7. its predicate is a plan;
8. the plan has every field in its bounds, and no other field.

Then it is held against time, policy and the other bytes that were handed in; nothing of the image is read before:

9. now is within its window;
10. it was made under the policy that is in force, by the digest of the policy's bytes;
11. it asks for the isolation that the policy requires;
12. its kernel command line can neither be cut off nor read in two ways;
13. it is about this manifest.json, by the digest of its bytes;
14. it was made with this provenance bundle, by the digest of its bytes.

Then the manifest is read, and the image's files are looked at:

15. the plan's subjects are the files that the manifest names;
16. name, verity parameters, kernel command line, posture and verbs are the manifest's, or narrower;
17. kernel and initrd have the digests of the manifest; they are copied into sealed memory while they are hashed;
18. the rootfs has the size, the superblock and the top hash block that the signed verity parameters make;
19. the provenance passes all of its steps (provenance/verify.py) for these files, this manifest and this flake.lock.

Step 19 takes the rootfs's digest from the signed manifest: no gigabyte is hashed at launch, for every block of it is
tied to the verity root of step 16, by step 18 and by the guest's kernel when it reads the block.
"""

from collections.abc import Iterable
from dataclasses import InitVar, dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, NoReturn, Self, final, override

from mvmnix import manifest as manifest_file
from mvmnix.errors import Reason, RefusedError
from mvmnix.keys import Role
from mvmnix.launch import steps
from mvmnix.launch.boot_files import BootFiles, OpenFiles
from mvmnix.launch.plan import Plan
from mvmnix.launch.steps import Candidate, Sheet
from mvmnix.model import Digest, Image
from mvmnix.provenance.authenticate import authenticate, only_refusals
from mvmnix.provenance.policy import Signer, TrustPolicy
from mvmnix.provenance.slsa import Provenance
from mvmnix.provenance.verify import Verified

_WHAT: Final = "the plan"


class _Seal:
    """What only this module has: the permission to say that a plan was verified."""


_SEAL: Final = _Seal()


@final
@dataclass(frozen=True, slots=True, eq=False)
class VerifiedPlan:
    """A plan that passed every step, the evidence for it, and the descriptors that its machine boots from.

    `policy` is the digest of the policy in force, `digest` that of the plan's bundle. Sealed: `verify` makes it. A
    context manager that owns its descriptors. Neither copied nor pickled: another process forks from it, or verifies.
    """

    plan: Plan
    image: Image
    provenance: Verified[Provenance]
    signer: Signer
    policy: Digest
    digest: Digest
    files: BootFiles
    seal: InitVar[_Seal]

    def __post_init__(self, seal: _Seal) -> None:
        if seal is not _SEAL:
            raise TypeError("only launch.verify.verify() says that a plan is verified")

    @property
    def kernel(self) -> int:
        """Descriptor of the kernel's sealed copy."""
        return self.files["kernel"]

    @property
    def initrd(self) -> int:
        """Descriptor of the initrd's sealed copy."""
        return self.files["initrd"]

    @property
    def rootfs(self) -> int:
        """Descriptor of the root filesystem, for reading."""
        return self.files["rootfs"]

    def close(self) -> None:
        """Close the descriptors. A second call does nothing."""
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @override
    def __reduce__(self) -> NoReturn:
        raise TypeError("a verified plan stays in the process that verified it, and in its forks")


def verify(
    *,
    plan: bytes,
    provenance: bytes,
    manifest: bytes,
    lock: bytes | None,
    files: OpenFiles,
    policy: TrustPolicy,
    now: datetime,
    parts: tuple[bytes, ...] = (),
) -> VerifiedPlan:
    """Take a plan through all steps.

    `plan` and `provenance` are bundles, `manifest` the bytes of manifest.json, `lock` those of flake.lock or None,
    `policy` the one in force, `now` a time with its zone, `parts` the bundles of kept parts that the provenance names.
    Raises RefusedError with every reason of the group of steps in which one was found; whatever was opened is closed
    again then.
    """
    with only_refusals(_WHAT):
        authentic = authenticate(plan, policy=policy, role=Role.PLANNER, what=_WHAT)
        claim = steps.step_6_statement(authentic)
        steps.step_7_predicate_type(claim)
        sheet = Sheet(steps.step_8_plan(claim), policy, Digest.of(manifest), Digest.of(provenance), now)
        _refuse_any(reason for step in steps.SHEET_STEPS for reason in step(sheet))
        image = manifest_file.parse(manifest)
        boot = BootFiles()
        try:
            evidence = _look(Candidate(sheet.plan, image, files, provenance, lock, policy, now, parts), boot)
            return VerifiedPlan(
                sheet.plan, image, evidence, authentic.signer, policy.digest, authentic.digest, boot, _SEAL
            )
        except BaseException:
            boot.close()
            raise


def _look(it: Candidate, boot: BootFiles) -> Verified[Provenance]:
    """Steps 15 to 19; all of them are taken, whatever the others say."""
    reasons = [reason for step in steps.IMAGE_STEPS for reason in step(it)]
    reasons += [reason for file_step in steps.FILE_STEPS for reason in file_step(it, boot)]
    try:
        evidence = steps.step_19_provenance(it)
    except RefusedError as error:
        raise RefusedError(*reasons, *error.reasons) from error
    _refuse_any(reasons)
    return evidence


def _refuse_any(reasons: Iterable[Reason]) -> None:
    found = tuple(reasons)
    if found:
        raise RefusedError(*found)
