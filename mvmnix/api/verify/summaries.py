"""Signs verification summaries (SLSA VSA): the result of a verification, for those who trust this verifier."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvmnix import __version__
from mvmnix.api.context import Context
from mvmnix.clock import now
from mvmnix.digest import Digest
from mvmnix.errors import UsageError
from mvmnix.images.store import VerifiedImage
from mvmnix.keys import Role
from mvmnix.provenance.bundle.statement import Statement, Subject, distinct
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import parts, predicate
from mvmnix.provenance.slsa.provenance import Provenance, subjects_of
from mvmnix.provenance.verify import vsa, vsa_inputs
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact
from mvmnix.provenance.verify.release_checks import ReleasePolicy
from mvmnix.provenance.verify.vsa import Result, Vsa
from mvmnix.provenance.verify.vsa_inputs import ReadBuild, SummaryInput
from mvmnix.system.output_files import NewFile


@dataclass(frozen=True, slots=True)
class Finding:
    """What was verified: the resource, under which policy, by which bundles, to which level, and which files."""

    resource: str
    policy: Digest
    bundles: tuple[Digest, ...]
    level: int
    subjects: tuple[Subject, ...]
    relied_on: tuple[SummaryInput, ...] | None = None


def finding_of_image(it: VerifiedImage, policy: TrustPolicy) -> Finding:
    """The finding about an image, which was verified under this policy; of rebuilds, if it asks for any."""
    parts_statements = ((data, _of_parts) for data in it.evidence.parts)
    asked = it.evidence.rebuilds if policy.thresholds.rebuilds > 1 else ()
    rebuilds = ((data, predicate.read_provenance) for data in asked)
    bundles: tuple[tuple[bytes, ReadBuild], ...]
    bundles = ((it.evidence.provenance, predicate.read_provenance), *parts_statements, *rebuilds)
    relied_on = vsa_inputs.relied_on(bundles, policy.trust)
    return Finding(
        resource=vsa.resource_of(it.image),
        policy=it.provenance.policy,
        bundles=tuple(each.bundle for each in relied_on),
        level=it.provenance.level,
        subjects=subjects_of(it.image.artifacts),
        relied_on=relied_on,
    )


def _of_parts(it: Statement) -> Provenance:
    return parts.from_statement(it).provenance


def finding_of_files(files: Sequence[AcceptedArtifact], policy: TrustPolicy, resource: str) -> Finding:
    """The finding about files, each of which passed under the policy; the level is the lowest of theirs.

    Raises UsageError for two files of one name, which could not be told apart.
    """
    rules = ReleasePolicy(policy, now())
    levels = (max(_levels(it, rules), default=0) for it in files)
    looked_at = tuple(each.attested.digest for it in files for each in it.counted)
    try:
        subjects = distinct(Subject(Path(it.name).name, _sha256(it)) for it in files)
    except ValueError as error:
        raise UsageError(f"--vsa: {error}", hint="verify files of one name one by one") from error
    return Finding(resource, policy.digest, looked_at, min(levels), subjects)


def _sha256(it: AcceptedArtifact) -> Digest:
    if it.digest is None:
        raise ValueError(f"{it.name} is known by another digest than SHA-256")
    return it.digest


def _levels(it: AcceptedArtifact, rules: ReleasePolicy) -> Iterable[int]:
    for each in it.counted:
        if each.statement is not None:
            yield rules.level(each.statement, each.attested.signer) or 0


def write_summary(context: Context, it: Finding, out: NewFile, verifier_id: str) -> None:
    """Write the signed summary to a new file. Raises UsageError for a file that is there, MvmnixError without a key."""
    key = context.key(Role.VERIFIER)
    try:
        made = Vsa(
            verifier_id=verifier_id or vsa.verifier_of(key.public),
            version=__version__,
            time=now(),
            resource=it.resource,
            policy=it.policy,
            inputs=vsa.inputs_of(it.bundles),
            result=Result.PASSED,
            level=it.level,
            subjects=it.subjects,
            relied_on=it.relied_on,
        )
    except ValueError as error:
        hint = "name the verifier, and the resource of files, by a URI such as https://verifier.example/gate"
        raise UsageError(f"--vsa: {error}", hint=hint) from error
    out.write(context.sign(Role.VERIFIER, vsa.to_statement(made).to_bytes()))
