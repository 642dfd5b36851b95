"""The table of refusals: what an attacker changes, and the code by which it is refused."""

from dataclasses import replace
from datetime import timedelta

from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode as Code
from mvmnix.keys import Role
from mvmnix.model import Posture
from mvmnix.plan.backend import Backend
from mvmnix.plan.kernel_command_line import LONGEST
from mvmnix.provenance.isolation import Isolation
from mvmnix.provenance.slsa.provenance import HOST_NIX, LockAccount
from tests.hostile.claims import (
    PREDICATE,
    STRANGER,
    another_hint,
    another_policy,
    for_another_image,
    kernel_command_line,
    lock_with_a_newline_more,
    manifest_command_line,
    nodes,
    plan,
    policy,
    provenance,
    provenance_for_a_plan,
    provenance_of_that_lock,
    reformatted,
    signed_by,
    signed_twice,
    unsigned,
    window,
    with_a_broken_signature,
    with_a_file_of_another_build,
    with_a_verb,
    with_another_bundle,
    with_other_sources,
    without_a_signature,
)
from tests.hostile.rig import Move
from tests.unit.provenance.world import drop, put

ROWS: dict[str, tuple[Move, Code]] = {
    # a plan, and who signed it
    "unsigned": (unsigned, Code.UNSIGNED),
    "an empty signature": (without_a_signature, Code.UNSIGNED),
    "a broken signature": (with_a_broken_signature, Code.SIGNATURE_INVALID),
    "two signatures": (signed_twice, Code.BUNDLE_MALFORMED),
    "a newline more": (reformatted, Code.BUNDLE_NOT_CANONICAL),
    "a stranger": (plan(key=STRANGER), Code.SIGNER_UNKNOWN),
    "a stranger under the planner's name": (another_hint, Code.SIGNATURE_INVALID),
    "the builder plans": (signed_by(Role.BUILDER), Code.SIGNER_ROLE),
    "the host plans": (signed_by(Role.HOST), Code.SIGNER_ROLE),
    "a provenance for a plan": (provenance_for_a_plan, Code.PREDICATE_TYPE),
    "an unknown field": (plan(put(True, *PREDICATE, "trusted")), Code.PLAN_MALFORMED),
    "a missing field": (plan(drop(*PREDICATE, "nonce")), Code.PLAN_MALFORMED),
    "root as user": (plan(put(0, *PREDICATE, "workload", "user", "uid")), Code.PLAN_MALFORMED),
    # when
    "expired": (window(begin=-timedelta(days=2), end=timedelta()), Code.PLAN_EXPIRED),
    "not yet valid": (window(begin=timedelta(minutes=30)), Code.PLAN_NOT_YET_VALID),
    # what for
    "another image": (for_another_image, Code.PLAN_MISMATCH),
    "another policy": (another_policy, Code.POLICY_MISMATCH),
    "another bundle": (with_another_bundle, Code.PROVENANCE_MISMATCH),
    "a container": (plan(backend=Backend.CONTAINER, isolation=Isolation.CONTAINER), Code.ISOLATION_UNAVAILABLE),
    "a sealed image that is opened": (plan(posture=Posture.DEV), Code.PLAN_MISMATCH),
    "a verb that the image lacks": (with_a_verb, Code.VERB_NOT_GRANTED),
    **{
        f"another {name} in the plan": (
            plan(put("0" * 64, "subject", number, "digest", "sha256")),
            Code.SUBJECT_MISMATCH,
        )
        for number, name in enumerate(("kernel", "initrd", "rootfs"))
    },
    "a file less in the plan": (plan(drop("subject", 1)), Code.SUBJECT_MISMATCH),
    # a command line that smuggles
    **{
        f"a command line with {name}": (kernel_command_line(text), Code.COMMAND_LINE)
        for name, text in {
            # one for each rule; all ways to break them are rows of tests/unit/plan/test_kernel_command_line.py
            "a newline": "quiet\ninit=/bin/sh",
            "quotes": 'quiet a="b init=/bin/sh"',
            "a backend's parameter": "quiet tsc_early_khz=1",
            "2,048 bytes": "a" * 2048,
            "a byte more than fits": "a" * (LONGEST + 1),
        }.items()
    },
    "a manifest with quotes in its command line": (manifest_command_line('a="b c"'), Code.COMMAND_LINE),
    "a command line that the image does not have": (kernel_command_line("init=/bin/sh"), Code.PLAN_MISMATCH),
    # how the image came to be
    "the planner builds": (lambda it: it.sign_provenance(key=it.role(Role.PLANNER)), Code.SIGNER_ROLE),
    "a stranger builds": (provenance(key=STRANGER), Code.SIGNER_UNKNOWN),
    "the host's Nix builds": (provenance(builder_id=HOST_NIX, builder_image=()), Code.BUILDER_NOT_ADMITTED),
    "somebody else builds": (provenance(builder_id="urn:elsewhere:builder"), Code.BUILDER_NOT_ADMITTED),
    "another build type": (
        provenance(put("urn:other", *PREDICATE, "buildDefinition", "buildType")),
        Code.BUILD_TYPE,
    ),
    "a parameter more": (
        provenance(put(1, *PREDICATE, "buildDefinition", "externalParameters", "impure")),
        Code.EXTERNAL_PARAMETERS,
    ),
    "another lock": (lock_with_a_newline_more, Code.LOCK_MISMATCH),
    "sources of another lock": (provenance_of_that_lock, Code.DEPENDENCY_MISMATCH),
    "a node that nobody accounts for": (nodes(untouched=()), Code.DEPENDENCY_MISMATCH),
    "a relative node that nobody accounts for": (nodes(relative=()), Code.DEPENDENCY_MISMATCH),
    "no nodes at all": (provenance(nodes=LockAccount((), (), ())), Code.DEPENDENCY_MISMATCH),
    "no sources": (provenance(sources=()), Code.DEPENDENCY_MISMATCH),
    "a source less": (with_other_sources(lambda _: ()), Code.DEPENDENCY_MISMATCH),
    "a source twice": (with_other_sources(lambda it: (it, it)), Code.DEPENDENCY_MISMATCH),
    "a source with other bytes": (
        with_other_sources(lambda it: (replace(it, digest=Digest.of(b"")),)),
        Code.DEPENDENCY_MISMATCH,
    ),
    "another flake": (policy('patterns = ["*"]', 'patterns = ["git+https://elsewhere/*"]'), Code.SOURCE_NOT_ADMITTED),
    "a build of tomorrow": (
        lambda it: it.sign_provenance(finished=it.now + timedelta(days=1)),
        Code.BUILD_TIME,
    ),
    "a build that ended before it began": (
        lambda it: it.sign_provenance(started=it.claim.finished + timedelta(seconds=1)),
        Code.BUILD_TIME,
    ),
    # statements of two builds
    **{
        f"the {name} of another build": (with_a_file_of_another_build(name), Code.SUBJECT_MISMATCH)
        for name in ("rootfs", "manifest.json")
    },
}
