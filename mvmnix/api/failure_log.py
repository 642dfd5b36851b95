"""Keeps what the failed child behind an error said, for a frontend that is about to tell the error."""

import os

from mvmnix.clock import now
from mvmnix.errors import MvmnixError
from mvmnix.system import child_logs
from mvmnix.system.process import failed_child
from mvmnix.system.roots import Roots


def keep_failure(error: MvmnixError) -> None:
    """Have the error name the command, and the file in which all of it stands, or why it was not kept.

    Changes nothing where there was no child, or one that may have said a secret; what was logged already stays.
    """
    failure = failed_child(error)
    if failure is None or failure.secret:
        return
    if failure is not error:
        error.command = failure.summary
    if error.log:
        return
    try:
        with Roots.from_environment(os.environ) as roots, roots.state.child(child_logs.DIRECTORY) as logs:
            error.log = child_logs.keep(logs, failure, now())
    except (MvmnixError, OSError) as why:
        error.log = f"not kept: {child_logs.why_not(why)}"
