"""Shows verdicts: a line for each file and reason, strangers' strings escaped, or everything as one JSON answer."""

import json
from collections.abc import Iterable, Mapping

import click

from mvmnix.api.verify.artifacts import ArtifactVerdict, FailedArtifact
from mvmnix.cli.output import answer, explaining
from mvmnix.digest import Digest
from mvmnix.errors import Reason
from mvmnix.formats import strict
from mvmnix.formats.escaping import escape_line
from mvmnix.provenance.bundle.statement import STATEMENT_LIMIT
from mvmnix.provenance.bundle.verification_material import Inclusion
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact, CountedBundle, signer_of
from mvmnix.provenance.verify.authentication import Attested, Authentic

#: What a key alone does not say, and what a log's word says that promises no time.
NO_WITNESS = "no log, no trusted time"
NO_TIME = "in the log, no trusted time"
#: Of a statement that names packages, where none is required.
UNCHECKED = "not checked: the package's name"
#: What a time alone does not say: whether a log has the signature, which proofs show.
_MISSING = {Inclusion.PROVED: "", Inclusion.PROMISED: ", promised by the log, no proof", Inclusion.NONE: ", no log"}


def one_line(reason: Reason) -> str:
    """`WHAT: refused [CODE]: WHY. Next: HINT`, on one line, whatever stands in it."""
    return escape_line(str(reason))


def tell_reasons(reasons: Iterable[Reason]) -> None:
    """A line on stderr for each, and one with the commands that explain them."""
    told = tuple(reasons)
    for reason in told:
        click.echo(one_line(reason), err=True)
    click.echo(f"more: {explaining(told)}", err=True)


def show(verdicts: Iterable[ArtifactVerdict], *, statements: bool) -> None:
    """Files that passed on stdout, or their statements if those are asked for; reasons on stderr."""
    for verdict in verdicts:
        if isinstance(verdict, FailedArtifact):
            tell_reasons(verdict.refused.reasons)
            continue
        for each in verdict.counted:
            if statements and each.statement is not None:
                click.echo(_text(each))
            click.echo(escape_line(f"{verdict.name}: verified: {_said(each)}"), err=statements)


def show_json(verdicts: Iterable[ArtifactVerdict], *, statements: bool) -> None:
    """Everything, in the one envelope: a verdict for each file, and whether all passed."""
    told = [_record(verdict, statements=statements) for verdict in verdicts]
    reasons = [reason for each in verdicts if isinstance(each, FailedArtifact) for reason in each.refused.reasons]
    result: dict[str, object] = {"verified": not reasons, "artifacts": told}
    answer("verdict", result | ({"reasons": [reason.record for reason in reasons]} if reasons else {}))


def _said(it: CountedBundle) -> str:
    claim = "a signature over the file" if it.statement is None else it.statement.predicate_type
    package = "" if it.package is None else f", package {it.package}"
    unchecked = f"; {UNCHECKED}" if it.package is None and _names_package(it) else ""
    return f"{claim}{package}, signed by {signer_of(it.attested)} ({seen(it.attested)}){unchecked}"


def _names_package(it: CountedBundle) -> bool:
    return it.statement is not None and any(each.name.startswith("pkg:") for each in it.statement.subjects)


def seen(it: Attested | Authentic) -> str:
    """When a trusted source saw the signature, for people, and what of a log is missing; or that none did."""
    return _unseen(it) if it.time is None else f"signed {strict.show_time(it.time)}{_MISSING[it.inclusion]}"


def _unseen(it: Attested | Authentic) -> str:
    return NO_WITNESS if it.inclusion is Inclusion.NONE else NO_TIME


def signing_facts(it: Attested | Authentic) -> Mapping[str, object]:
    """Who was certified and when the signature was seen, for machines; `witness` says what is missing."""
    told: dict[str, object] = {
        "identity": None if it.identity is None else {"subject": it.identity[0], "issuer": it.identity[1]},
        "time": None if it.time is None else strict.show_time(it.time),
        "inclusion": it.inclusion,
    }
    return told | ({"witness": _unseen(it)} if it.time is None else {})


def _text(it: CountedBundle) -> str:
    """The statement on one line of ASCII: what a terminal could take amiss is written out, as JSON does."""
    return json.dumps(_statement(it), sort_keys=True, ensure_ascii=True)


def _statement(it: CountedBundle) -> object:
    return strict.parse_json(it.payload, limit=STATEMENT_LIMIT, fraction=float)


def _record(verdict: ArtifactVerdict, *, statements: bool) -> Mapping[str, object]:
    told = {"artifact": verdict.name, "digest": str(verdict.blob), "verified": isinstance(verdict, AcceptedArtifact)}
    if isinstance(verdict, FailedArtifact):
        return told | {"reasons": [reason.record for reason in verdict.refused.reasons]}
    return told | {
        "statements": [_counted(each, statements=statements) for each in verdict.counted],
        "others": [reason.record for reason in verdict.others],
    }


def _counted(it: CountedBundle, *, statements: bool) -> Mapping[str, object]:
    told: dict[str, object] = {
        "number": it.number,
        "bundle": str(it.attested.digest),
        "payload": None if it.statement is None else str(Digest.of(it.payload)),
        "type": None if it.statement is None else it.statement.predicate_type,
        "package": it.package,
        "signer": it.attested.signer.name,
        "fingerprint": str(it.attested.signer.fingerprint),
        **signing_facts(it.attested),
    }
    return told | ({"statement": _statement(it)} if statements and it.statement is not None else {})
