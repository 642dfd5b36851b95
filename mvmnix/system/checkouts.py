"""The one place that refuses mvm's own directories inside a checkout: it would bring its own policy, keys and log.

Variables such as XDG_CONFIG_HOME, XDG_STATE_HOME and HOME say where these directories are, and a checkout can have
variables set (direnv's `.envrc`, an editor's settings). The rule, as in docs/reference/trust-policy.md:

1. The trees that are looked at are the working directory, or the directory of the flake that is named; and each
   directory above it that holds one of MARKS: git work trees, nested ones too, and flakes.
2. A tree that contains the home directory of the password file (passwd(5)) is none: people keep their home in git, and
   have their configuration below it. HOME doesn't count, for a checkout can set it. The root directory is none either.
3. What lies in one of these trees is refused, whatever symbolic links lead there; directories are compared by device
   and inode.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mvmnix.errors import ReasonCode, refuse
from mvmnix.system.trusted_path import home_of

#: What makes a directory the top of a checkout: a git work tree (gitrepository-layout(5); a file where it is a linked
#: work tree or a submodule), or a flake.
MARKS: Final = (".git", "flake.nix")
#: The name of the directory with policy and keys; the others hold state.
CONFIG: Final = "config"


def refuse_inside(directories: Mapping[str, str], directory: str) -> None:
    """Refuse mvm's own directories inside a checkout that `directory` stands in, or that it is.

    `directories` are their absolute paths by name, of which nothing need exist yet. Raises RefusedError:
    POLICY_LOCATION for CONFIG, STATE_LOCATION for the others.
    """
    for tree in _checkouts(directory):
        for name, path in directories.items():
            if _contains(tree, path):  # 3
                code = ReasonCode.POLICY_LOCATION if name == CONFIG else ReasonCode.STATE_LOCATION
                why = f"it lies in {tree}, whose files are to be judged: no checkout brings its own policy or state"
                hint = "unset HOME and the XDG_… variables or point them out of there, or run mvm from elsewhere"
                raise refuse(code, path, why, hint)


def _checkouts(directory: str) -> Iterator[Path]:
    """The trees of a directory by steps 1 and 2, the innermost first."""
    try:
        here = Path(directory).resolve(strict=True)
    except (FileNotFoundError, PermissionError):  # no path leads there, and so none into it
        return
    home = home_of(os.geteuid())
    for tree in (here, *here.parents):
        if tree == tree.parent or (home is not None and _contains(tree, home)):  # 2
            return  # what is above it contains the home directory, too
        if tree == here or any(os.path.lexists(tree / mark) for mark in MARKS):  # 1
            yield tree


def _contains(tree: Path, path: str) -> bool:
    """Whether the path, or as much of it as exists, is the tree or lies in it."""
    wanted, real = tree.stat(), Path(path).resolve()
    for each in (real, *real.parents):
        with suppress(OSError):
            if os.path.samestat(each.stat(), wanted):
                return True
    return False
