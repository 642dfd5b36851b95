"""What `mvm doctor` says of the machine owner's policy: whether there is one, whose it is, and whom it holds for."""

import os
import shlex
from collections.abc import Iterator
from typing import Final

from mvmnix.api.context import Context
from mvmnix.api.doctor.finding import Finding, Health
from mvmnix.errors import RefusedError
from mvmnix.model import Digest
from mvmnix.private_dirs import Directory
from mvmnix.provenance.policy.policy_files import in_force
from mvmnix.provenance.policy.trust_text import FILE_NAME
from mvmnix.trusted_path import owner_name

_TITLE: Final = "policy floor"
#: A policy protects its reader from artifacts. It can't bind a user, who may run another program.
WHOM: Final = "it holds for every user of this machine whose mvm reads it, root included; a modified mvm can ignore it"


def floor(context: Context) -> Iterator[Finding]:
    """One finding: the floor, and the caller's policy under it. Raises RefusedError for one that can't be trusted."""
    path = f"{context.floor}/{FILE_NAME}"
    owner = _owner(context.floor)
    if owner is None:
        said = f"there is none ({path}): each user's own trust.toml alone counts for that user"
        yield Finding(_TITLE, Health.NOTE, said)
        return
    machine, user = context.policy_files
    digest = Digest.of(machine.text or b"")
    said = f"{path}, {digest}, belongs to {owner_name(owner)}"
    try:
        in_force(machine, user)
    except RefusedError as error:
        reason = error.reasons[0]
        yield Finding(
            _TITLE, Health.BAD, f"{said}; yours is refused under it: [{reason.code}] {reason.why}", reason.hint
        )
        return
    yours = "you have none of your own, so it is your policy" if user.text is None else "your trust.toml is within it"
    if owner != 0:
        directory, old, new = map(shlex.quote, (os.path.dirname(path), path, f"{path}.new"))  # noqa: PTH120 - a text
        hint = f"read it; then as root: chown root: {directory} && install -m 644 {old} {new} && mv {new} {old}"
        yield Finding(_TITLE, Health.NOTE, f"{said}; {yours}; it isn't root's, so other users' mvm refuses it", hint)
        return
    yield Finding(_TITLE, Health.GOOD, f"{said}; {yours}; {WHOM}")


def _owner(directory: str) -> int | None:
    """Whose the file is; None without one."""
    try:
        with Directory.open(directory) as opened:
            fd = opened.open_file(FILE_NAME)
    except FileNotFoundError:
        return None
    try:
        return os.fstat(fd).st_uid
    finally:
        os.close(fd)
