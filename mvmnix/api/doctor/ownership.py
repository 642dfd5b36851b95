"""What `mvm doctor` says of files in a user's own directories that belong to root: each is closed to the user.

A program of root's that worked with the user's HOME leaves such files.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.plural import counted
from mvmnix.trusted_path import home_of, is_beneath, repair

#: So many are named; the command is for all of them.
_MOST: Final = 5
#: The directory whose entries are paths of a user's own Nix store (docs/nix.md).
_STORE: Final = "mvmnix/nix/nix/store"


def ownership(context: Context) -> Iterator[Finding]:
    """One finding for all files of root's, in the four directories or above them in the user's home."""
    above = tuple(dict.fromkeys(it for path in context.roots.paths.values() for it in _above(path)))
    inside = {path: found for path in context.roots.paths.values() if (found := tuple(_of_root(path)))}
    every = (*above, *(path for found in inside.values() for path in found))
    if not every:
        return
    more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    said = f"{counted(len(every), 'file belongs', 'files belong')} to root: {', '.join(every[:_MOST])}{more}"
    commands = [repair(*above, recursive=False)] if above else []
    commands += [repair(*inside)] if inside else []
    hint = "root's mvm made them here; give them to yourself:"
    yield Finding("files of root's", Health.BAD, said, hint, (" && ".join(commands),))


def _above(path: str) -> Iterator[str]:
    """Directories of root's between the user's home and the directory, as far as can be seen."""
    home = home_of(os.geteuid())
    for directory in reversed(Path(path).parents):
        if is_beneath(str(directory), home) and _is_root_s(str(directory)):
            yield str(directory)


def _is_root_s(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == 0
    except OSError:
        return False


def _of_root(path: str) -> Iterator[str]:
    """What is root's there, the directory itself included; of what is in a directory of root's, nothing.

    A path of a Nix store is one entry: its files are read-only, and many.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return
    if status.st_uid == 0:
        yield path
    elif stat.S_ISDIR(status.st_mode) and not Path(path).parent.match(_STORE):
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208 - texts
        except OSError:
            return
        for name in names:
            yield from _of_root(f"{path}/{name}")
