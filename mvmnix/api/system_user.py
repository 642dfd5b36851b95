"""The step that a program of root's takes first; imports nothing that reads a variable when it is loaded."""

import os

from mvmnix.system import system_user


def become_system_user(name: str = "") -> None:
    """As root: be a system user from here on, `mvmnix` unless another is named; as a plain user do nothing.

    For a process with one thread, which is looked at, before anything else is called here. Root's variables and
    descriptors are dropped, and no way leads back (docs/reference/privileges.md). Without this call nothing starts in
    a process of root's. Raises MvmnixError where it fails: then this process must end.
    """
    if 0 in os.getresuid():
        system_user.become(name or system_user.USER)
