"""`mvm verify`: says whether files are what a trusted signer signed for; starts nothing.

It fetches nothing, but for what is attached to an image in a registry that is named (`oci://…`).

Exit codes: 0 verified, 1 refused, 2 could not verify.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from mvmnix.api import BUNDLE_NAME, BUNDLE_SUFFIX, digest_in, exists, is_directory
from mvmnix.api.verify.artifacts import in_registry, verify_artifacts
from mvmnix.api.verify.trust_choice import TrustChoice
from mvmnix.cli.completers import file
from mvmnix.cli.options.outputs import OutputType
from mvmnix.cli.options.trust import VerifyOptions, trust_options, wanted_options
from mvmnix.cli.output import explaining, is_reader_gone
from mvmnix.cli.verdicts import show, show_json
from mvmnix.errors import MvmnixError, RefusedError, UnreadableError, UsageError
from mvmnix.provenance.verify.artifact_verifier import AcceptedArtifact
from mvmnix.provenance.verify.requirements import Requirements
from mvmnix.system.output_files import NewFile


@click.command()
@click.argument(
    "artifacts",
    nargs=-1,
    required=True,
    metavar="ARTIFACT|sha256:DIGEST|gitCommit:COMMIT|IMAGE|DIRECTORY...",
    shell_complete=file,
)
@click.option(
    "--bundle",
    default="",
    help=f"Bundles, as JSON or JSON Lines; - for stdin. Default: ARTIFACT{BUNDLE_SUFFIX}, DIRECTORY/{BUNDLE_NAME}.",
)
@trust_options
@wanted_options
@click.option("--print-provenance", "statements", is_flag=True, help="Print the statements that count, as JSON.")
@click.option("--plan", default="", help="With DIRECTORY: a signed plan, to be verified together with the image.")
@click.option(
    "--vsa", type=OutputType(NewFile, "FILE"), help="Write a signed summary of a verification under a policy."
)
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
    vsa: NewFile | None,
    verifier_id: str,
    resource_uri: str,
    as_json: bool,
) -> int:
    """Verify that a trusted signer has signed for files of any build, or for an image as a whole.

    IMAGE is oci://HOST/NAME@sha256:DIGEST. Without --bundle, its registry is asked for what is attached to it; the host
    has to be listed in config.toml. Nothing else is fetched.

    DIRECTORY is an image as `mvm build --out` wrote it; it is held against a trust policy, by all steps of a launch.

    Exit codes: 0 verified, 1 refused, 2 could not verify.
    """
    if verifier_id and not vsa:
        raise UsageError("--verifier-id goes with --vsa", hint="say where to write the summary")
    options = VerifyOptions(bundle, plan, as_json, statements, vsa, verifier_id, resource_uri)
    with could_not_verify():
        if any(map(is_directory, artifacts)):
            from mvmnix.cli.commands.verify_image import verify_one_image  # noqa: PLC0415 - files don't pay for it

            return verify_one_image(artifacts, whom, wanted, options)
        return _files(artifacts, whom, wanted, options)


def _files(artifacts: tuple[str, ...], whom: TrustChoice, wanted: Requirements, options: VerifyOptions) -> int:
    if options.plan:
        raise UsageError("--plan goes with a directory", hint="name the directory of `mvm build --out`")
    if bool(options.vsa) != bool(options.resource_uri):
        raise UsageError("--vsa and --resource-uri go together", hint="say what the files are, by a URI")
    for artifact in () if whom.named or whom.policy else artifacts:
        if not (exists(artifact) or digest_in(artifact) or in_registry(artifact)):
            hint = "check the path: it is a file, the directory of an image (`mvm build --out`), or sha256:DIGEST"
            raise UsageError(f"{artifact} can't be read: there is no such file", hint=hint)
    _must_be_commits(artifacts, wanted)
    criteria, policy = whom.criteria(wanted)
    for artifact in artifacts if policy is not None else ():
        if digest_in(artifact).keys() - {"sha256"}:
            hint = "name the file, or its sha256: revocations.toml names files by that alone"
            raise UsageError(f"{artifact[:24]}… can't be held against a policy", hint=hint)
    if options.vsa and policy is None:
        raise UsageError("a summary is about a policy", hint="name one: --policy P")
    verdicts = verify_artifacts(artifacts, options.bundle, criteria)
    passed = [verdict for verdict in verdicts if isinstance(verdict, AcceptedArtifact)]
    if policy is not None and options.vsa is not None and len(passed) == len(verdicts):
        from mvmnix.api.verify.summaries import finding_of_files  # noqa: PLC0415 - nor do those without a summary
        from mvmnix.cli.commands.verify_image import write_finding  # noqa: PLC0415

        write_finding(finding_of_files(passed, policy, options.resource_uri), options.vsa, options.verifier_id)
    (show_json if options.as_json else show)(verdicts, statements=options.statements)
    return int(len(passed) != len(verdicts))


def _must_be_commits(artifacts: tuple[str, ...], wanted: Requirements) -> None:
    """A source level is of a revision, which is named by nothing else. Raises UsageError."""
    if wanted.source_level is None:
        return
    if wanted.source_tag is not None or wanted.source_digest is not None:
        hint = "name the commit in place of a file: gitCommit:COMMIT"
        raise UsageError("--source-level goes with --source-uri alone", hint=hint)
    for artifact in artifacts:
        if "gitCommit" not in digest_in(artifact):
            hint = "verify the file with --source-digest COMMIT, and gitCommit:COMMIT with --source-level"
            raise UsageError(f"--source-level is of a commit, and {artifact[:80]} is none", hint=hint)


@contextmanager
def could_not_verify() -> Iterator[None]:
    """Make of every failure that is not a verdict one that exits with 2; a reader that left is none."""
    try:
        yield
    except (UnreadableError, UsageError, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except RefusedError as error:  # its message has each hint once already
        told = "\n".join(f"{it.what}: refused [{it.code}]: {it.why}" for it in error.reasons)
        hints = dict.fromkeys(it.hint for it in error.reasons)
        raise UnreadableError(told, hint="; ".join((*hints, explaining(error.reasons)))) from error
    except MvmnixError as error:
        raise UnreadableError(error.message or str(error), hint=error.hint) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError) and is_reader_gone():
            raise
        why = f"{error.filename or 'the system'}: {error.strerror}"
        raise UnreadableError(why, hint="see that the path can be read, and that the answer can be written") from error
    except Exception as error:
        why = f"unexpected {type(error).__name__}: {error}"
        raise UnreadableError(why, hint="report this as a bug, with the files if you can") from error
