"""Verifies files of any build against bundles of any tool; what to believe and to require was typed."""

from collections.abc import Sequence

from mvmnix.cli.verifying import bundles, files
from mvmnix.cli.verifying.verdicts import Failed, Verdict
from mvmnix.errors import RefusedError, UsageError
from mvmnix.provenance.judgement import Standard, judge


def verify_artifacts(artifacts: Sequence[str], bundle: str, standard: Standard) -> tuple[Verdict, ...]:
    """A verdict for each, whatever the others are. Raises UsageError, UnreadableError before the first."""
    if not bundle and any(files.digest_in(artifact) for artifact in artifacts):
        raise UsageError("a digest has no bundle beside it", hint="name one: --bundle BUNDLE")
    shared = bundles.bundles(bundle) if bundle else None
    found = [(name, files.blob(name), bundles.beside(name) if shared is None else shared) for name in artifacts]
    verdicts = list[Verdict]()
    for name, blob, handed_in in found:
        try:
            verdicts.append(judge(name, blob, handed_in, standard))
        except RefusedError as refused:
            verdicts.append(Failed(name, blob, refused))
    return tuple(verdicts)
