"""Reads the trust policy that a caller named, from the place that they named and from nowhere else."""

from pathlib import Path

from mvmnix.errors import MvmnixError, UnreadableError, UsageError
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.policy.policy_files import Files, in_force
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.system.private_dirs import Directory


def named_policy(path: str) -> TrustPolicy:
    """The policy at a path that the caller named: a trust.toml, or the directory that holds one.

    What lies beside it belongs to it: revocations.toml, roots/. The machine's floor and the user's own policy have no
    part in it, and it has none in what starts here. Raises UnreadableError: without it nothing can be verified.
    """
    try:
        return in_force(Files(None), named_files(path))
    except (UsageError, UnreadableError):
        raise
    except MvmnixError as error:
        raise UnreadableError(f"the policy {path} can't be used: {error.message}", hint=error.hint) from error


def named_files(path: str) -> Files:
    """What the trust.toml at this path says, or that in this directory. Raises MvmnixError as it was found."""
    where = Path(path)
    directory = where if where.is_dir() else where.parent
    if not where.is_dir() and where.name != FILE_NAME:
        raise UsageError(f"{path} is not called {FILE_NAME}", hint=f"name a {FILE_NAME}, or the directory with it")
    try:
        with Directory.open(str(directory.absolute())) as opened:
            return Files(opened)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableError(
            f"{path} is not there", hint="name a trust.toml: docs/reference/trust-policy.md"
        ) from error
