"""`mvm verify`: says whether files are what a trusted signer signed for; starts nothing, fetches nothing.

Exit codes: 0 verified, 1 refused, 2 could not verify.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from mvmnix.api import BUNDLE_NAME, digest_in, open_context, policy_history
from mvmnix.api.verify import (
    SUFFIX,
    Finding,
    TrustChoice,
    finding_of_files,
    finding_of_image,
    named_policy,
    verify_artifacts,
    verify_image,
    write_summary,
)
from mvmnix.cli.completers import file
from mvmnix.cli.options import wanted_options, whom_options
from mvmnix.cli.output import TERMINAL, answer
from mvmnix.cli.verdicts import image_line, image_record, refusal_record, show, show_json, tell_reasons
from mvmnix.errors import MvmnixError, Reason, RefusedError, UnreadableError, UsageError
from mvmnix.escaping import escape_line
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.verify import Passed, Requirements


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for besides whom to trust."""

    bundle: str
    plan: str
    as_json: bool
    statements: bool
    vsa: str
    verifier_id: str
    resource_uri: str


@click.command()
@click.argument(
    "artifacts", nargs=-1, required=True, metavar="ARTIFACT|sha256:DIGEST|DIRECTORY...", shell_complete=file
)
@click.option(
    "--bundle",
    default="",
    help=f"Bundles, as JSON or JSON Lines; - for stdin. Default: ARTIFACT{SUFFIX}, DIRECTORY/{BUNDLE_NAME}.",
)
@whom_options
@wanted_options
@click.option("--print-provenance", "statements", is_flag=True, help="Print the statements that count, as JSON.")
@click.option("--plan", default="", help="With DIRECTORY: a signed plan, to be verified together with the image.")
@click.option("--vsa", default="", metavar="OUT", help="Write a signed summary of a verification under a policy.")
@click.option("--verifier-id", default="", metavar="URI", help="What the summary calls the verifier. Default: its key.")
@click.option("--resource-uri", default="", metavar="URI", help="What the summary calls files. An image has its own.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def verify(
    artifacts: tuple[str, ...],
    *,
    bundle: str,
    whom: TrustChoice,
    wanted: Requirements,
    statements: bool,
    plan: str,
    vsa: str,
    verifier_id: str,
    resource_uri: str,
    as_json: bool,
) -> int:
    """Verify that a trusted signer has signed for files of any build, or for an image as a whole.

    DIRECTORY is an image as `mvm build --out` wrote it; it is held against a trust policy, by all steps of a launch.

    Exit codes: 0 verified, 1 refused, 2 could not verify.
    """
    if verifier_id and not vsa:
        raise UsageError("--verifier-id goes with --vsa", hint="say where to write the summary")
    wish = _Wish(bundle, plan, as_json, statements, vsa, verifier_id, resource_uri)
    with could_not_verify():
        if any(Path(artifact).is_dir() for artifact in artifacts):
            return _image(artifacts, whom, wanted, wish)
        return _files(artifacts, whom, wanted, wish)


def _files(artifacts: tuple[str, ...], whom: TrustChoice, wanted: Requirements, wish: _Wish) -> int:
    if wish.plan:
        raise UsageError("--plan goes with a directory", hint="name the directory of `mvm build --out`")
    if bool(wish.vsa) != bool(wish.resource_uri):
        raise UsageError("--vsa and --resource-uri go together", hint="say what the files are, by a URI")
    for artifact in () if whom.named or whom.policy else artifacts:
        if not (Path(artifact).exists() or digest_in(artifact)):
            hint = "check the path: it is a file, the directory of an image (`mvm build --out`), or sha256:DIGEST"
            raise UsageError(f"{artifact} can't be read: there is no such file", hint=hint)
    standard, policy = whom.standard(wanted)
    for artifact in artifacts if policy is not None else ():
        if digest_in(artifact).keys() - {"sha256"}:
            hint = "name the file, or its sha256: revocations.toml names files by that alone"
            raise UsageError(f"{artifact[:24]}… can't be held against a policy", hint=hint)
    if wish.vsa and policy is None:
        raise UsageError("a summary is about a policy", hint="name one: --policy P")
    verdicts = verify_artifacts(artifacts, wish.bundle, standard)
    passed = [verdict for verdict in verdicts if isinstance(verdict, Passed)]
    if policy is not None and wish.vsa and len(passed) == len(verdicts):
        _write_summary(finding_of_files(passed, policy, wish.resource_uri), wish)
    (show_json if wish.as_json else show)(verdicts, statements=wish.statements)
    return int(len(passed) != len(verdicts))


def _image(artifacts: tuple[str, ...], whom: TrustChoice, wanted: Requirements, wish: _Wish) -> int:
    if wish.resource_uri:
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
        return _told(refused, 2, wish)  # without a policy nothing can be verified
    if older:
        return _told(RefusedError(*older), 1, wish)
    try:
        found = verify_image(policy, directory, wish.bundle, wish.plan)
    except RefusedError as refused:
        return _told(refused, 1, wish)
    if wish.vsa:
        _write_summary(finding_of_image(found, policy), wish)
    if wish.as_json:
        answer("verdict", {**image_record(found), **({"statement": found.statement} if wish.statements else {})})
    else:
        if wish.statements:
            click.echo(json.dumps(found.statement, sort_keys=True))
        click.echo(escape_line(f"{directory}: {image_line(found)}"), err=wish.statements)
    return 0


def _write_summary(finding: Finding, wish: _Wish) -> None:
    with open_context(TERMINAL) as context:
        write_summary(context, finding, wish.vsa, wish.verifier_id)


def _policy_in_force() -> tuple[TrustPolicy, tuple[Reason, ...]]:
    """The policy, and why it is older than the last one in the log: no launch takes anything under it."""
    with open_context(TERMINAL) as context:
        return context.policy, policy_history.not_older(context, context.policy)


def _told(refused: RefusedError, status: int, wish: _Wish) -> int:
    if wish.as_json:
        answer("verdict", refusal_record(refused))
    else:
        tell_reasons(refused.reasons)
    return status


@contextmanager
def could_not_verify() -> Iterator[None]:
    """Make of every failure that is no verdict one that exits with 2, the system's and a reader's that left too."""
    try:
        yield
    except (UnreadableError, UsageError, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except RefusedError as error:  # its message has each hint once already
        told = "\n".join(f"{it.what}: refused [{it.code}]: {it.why}" for it in error.reasons)
        hints = "; ".join(dict.fromkeys(it.hint for it in error.reasons))
        raise UnreadableError(told, hint=hints) from error
    except MvmnixError as error:
        raise UnreadableError(error.message or str(error), hint=error.hint) from error
    except OSError as error:
        why = f"{error.filename or 'the system'}: {error.strerror}"
        raise UnreadableError(why, hint="see that the path can be read, and that the answer can be written") from error
    except Exception as error:
        why = f"unexpected {type(error).__name__}: {error}"
        raise UnreadableError(why, hint="report this as a bug, with the files if you can") from error
