"""The only place that fetches a trust policy: from the machine's floor and the user's configuration, nowhere else.

A policy never comes from the working directory, a flake, a plan or a bundle: those belong to whoever is to be judged.
"""

from pathlib import PurePosixPath
from typing import Final

from mvmnix.errors import ReasonCode, UnreadableError, refuse
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.policy_text import LIMIT, effective
from mvmnix.state import Directory

#: The machine owner's policy, which user files only narrow.
FLOOR: Final = "/etc/mvmnix"
FILE_NAME: Final = "trust.toml"


def load(*, floor: str, config: Directory, cwd: str, home: str) -> TrustPolicy:
    """The policy in force.

    `floor` is the directory of the machine's file (`FLOOR` but in tests), `config` that of the user's, `cwd` and `home`
    the absolute real paths of working and home directory. Raises RefusedError: POLICY_LOCATION, STATE_PERMISSIONS when
    others could change a file, and what `effective` raises.
    """
    check_location(config.path, cwd=cwd, home=home)
    return effective(_read_floor(floor), _read(config))


def check_location(path: str, *, cwd: str, home: str) -> None:
    """Refuse a policy within the tree of the working directory: a checkout must not bring its own judge.

    Whoever stands in the home directory, or above it, has their configuration below them: that is no checkout.
    """
    if _within(path, cwd) and not _within(home, cwd):
        why = f"it lies in the working directory {cwd}, whose files are to be judged by the policy"
        hint = "unset XDG_CONFIG_HOME or point it out of there, or run mvm from elsewhere"
        raise refuse(ReasonCode.POLICY_LOCATION, path, why, hint)


def _within(path: str, tree: str) -> bool:
    return PurePosixPath(path).is_relative_to(tree)


def _read_floor(path: str) -> bytes | None:
    try:
        with Directory.open(path) as directory:
            return _read(directory)
    except FileNotFoundError:
        return None


def _read(directory: Directory) -> bytes | None:
    try:
        return directory.read(FILE_NAME, LIMIT)
    except FileNotFoundError:
        return None
    except UnreadableError as error:
        what, hint = directory.where(FILE_NAME), "no policy that people read is that large: docs/trust-policy.md"
        raise refuse(ReasonCode.POLICY_MALFORMED, what, error.message, hint) from error
