"""Gives up root's rights for a program that uses the application without the command line."""

import os
from pathlib import Path


def give_up_root(*paths: Path) -> None:
    """As root: be an unprivileged uid from here on, with a broker beside this process; as a plain user do nothing.

    For a process with one thread, before anything else is called here. `paths` are what the program will use, as a
    command line would name it (docs/privileges.md): no other file of root's can be read or written afterwards, and no
    way leads back. Raises MvmnixError where it fails: then this process must end.
    """
    if os.geteuid() != 0:
        return
    from mvmnix.privileges import give_up_root  # noqa: PLC0415 - plain users don't pay for it

    give_up_root([str(path.absolute()) for path in paths], os.environ)
