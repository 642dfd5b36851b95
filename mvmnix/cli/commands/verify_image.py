"""`mvm verify DIRECTORY`: an image as a whole, by all steps of a launch; and the summary of a verification."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from mvmnix.api import VerifiedImage, open_context, policy_history
from mvmnix.api.verify.image import verify_image
from mvmnix.api.verify.policy_at import named_policy
from mvmnix.api.verify.summaries import Finding, finding_of_image, write_summary
from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.cli.options.trust import VerifyOptions
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.cli.verdicts import seen, signing_facts, tell_reasons
from mvmnix.digest import Digest
from mvmnix.errors import Reason, RefusedError, UsageError
from mvmnix.formats.escaping import escape_line
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.verify.artifact_verifier import signer_of
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.system.output_files import NewFile


def verify_one_image(
    artifacts: tuple[str, ...], whom: TrustChoice, wanted: Requirements, options: VerifyOptions
) -> int:
    """Hold an image's directory against a policy; returns the exit code. Raises UsageError, UnreadableError."""
    if options.resource_uri:
        raise UsageError("an image has a resource URI of its own", hint="leave --resource-uri out")
    if len(artifacts) != 1:
        raise UsageError("an image is verified alone", hint="name one directory, or files only")
    if whom.named or wanted != Requirements():
        hint = "name the image's files instead: they are verified each, like any other"
        raise UsageError("an image's directory is held against a policy: --policy, or yours", hint=hint)
    directory = Path(artifacts[0])
    try:
        policy, older = (named_policy(whom.policy), ()) if whom.policy else _policy_in_force()
    except RefusedError as refused:
        return _report_refusal(refused, 2, options)  # without a policy nothing can be verified
    if older:
        return _report_refusal(RefusedError(*older), 1, options)
    try:
        found = verify_image(policy, directory, options.bundle, options.plan)
    except RefusedError as refused:
        return _report_refusal(refused, 1, options)
    if options.vsa is not None:
        write_finding(finding_of_image(found, policy), options.vsa, options.verifier_id)
    if options.as_json:
        answer("verdict", {**_image_record(found), **({"statement": found.statement} if options.statements else {})})
    else:
        if options.statements:
            click.echo(json.dumps(found.statement, sort_keys=True))
        click.echo(escape_line(f"{directory}: {_image_line(found)}"), err=options.statements)
    return 0


def write_finding(finding: Finding, out: NewFile, verifier_id: str) -> None:
    """Sign a summary of it, and write it."""
    with open_context(TERMINAL) as context:
        write_summary(context, finding, out, verifier_id)


def _policy_in_force() -> tuple[TrustPolicy, tuple[Reason, ...]]:
    """The policy, and why it is older than the last one in the log: no launch takes anything under it."""
    with open_context(TERMINAL) as context:
        return context.policy, policy_history.not_older(context, context.policy)


def _report_refusal(refused: RefusedError, status: int, options: VerifyOptions) -> int:
    if options.as_json:
        answer("verdict", _refusal_record(refused))
    else:
        tell_reasons(refused.reasons)
    return status


def _image_line(it: VerifiedImage) -> str:
    """What a verified image is, and who signed for it, for people."""
    claim = it.provenance.claim
    where = f"?dir={claim.directory}" if claim.directory else ""
    root = f"{claim.root.uri}{where}#{claim.attribute}"
    authentic, level = it.provenance.authentic, it.provenance.level
    return f"verified: {root}, signed by {signer_of(authentic)}, SLSA Build L{level} ({seen(authentic)})"


def _image_record(it: VerifiedImage) -> Mapping[str, object]:
    """The same for machines."""
    evidence = it.provenance
    return {
        "verified": True,
        "signer": evidence.signer.name,
        "level": evidence.level,
        "builder": evidence.claim.builder_id,
        "bundle": str(evidence.bundle),
        "payload": str(Digest.of(envelope.parse_bundle(it.evidence.provenance).payload)),
        "policy": str(evidence.policy),
        **signing_facts(evidence.authentic),
        "steps": [step.record for step in evidence.steps],
    }


def _refusal_record(it: RefusedError) -> Mapping[str, object]:
    """A refusal for machines: every reason, and each step that was taken."""
    steps = [step.record for step in it.steps]
    reasons = [reason.record for reason in it.reasons]
    return {"verified": False, "reasons": reasons, **({"steps": steps} if steps else {})}
