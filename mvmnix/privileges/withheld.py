"""Says of a failure whether root's mvm lacked a right that a process of root's would have had, and what to do then."""

import errno
from collections.abc import Iterator
from typing import Final

from mvmnix.errors import ReasonCode, RefusedError
from mvmnix.privileges import view

WRITING: Final = (
    "root's mvm writes in a directory that is named or worked in, and only if that or one above it is closed to other"
    " users: chmod 700 one, or name another place (docs/privileges.md)"
)
NAMING: Final = (
    "root's mvm has, of what is closed to others, root's files that its command line or MVMNIX_GRANT=/PATH names, in"
    " other directories than the system's or a home itself, and no other user's (docs/privileges.md)"
)


def withheld_words(error: BaseException) -> str:
    """What to tell root beside the failure itself; "" where it may have failed as it would with root's rights."""
    for each in _chain(error):
        match each:
            case OSError(errno=errno.EROFS):
                return WRITING
            case OSError(errno=errno.EACCES):
                return NAMING
            case OSError(errno=errno.ENOENT, filename=str(path)) if view.hides(path):
                return NAMING
            case RefusedError(codes=codes) if ReasonCode.SHARE_UNAVAILABLE in codes:
                return ""  # it says so itself
            case RefusedError(codes=codes, __cause__=OSError()) if ReasonCode.SECRET_UNAVAILABLE in codes:
                return NAMING  # it was opened component by component
            case _:
                pass
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The failure and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__
