"""Has the ends of machines verified for commands that tell them, with as little as that takes; wired when one needs it.

`mvm ps` is typed often: keys are read, and cryptography loaded, only for machines that have ended.
"""

import os
from collections.abc import Sequence

from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.launch.records.registry import Entry
from mvmnix.state import Directory, Roots


def verified(machines: Directory, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The same machines, with the records of their ends where these are proven by the host's key."""
    if not any(entry.has_ended for entry in entries):
        return tuple(entries)
    from mvmnix.audit.note import NoteKey  # noqa: PLC0415
    from mvmnix.launch.records.ends import with_ends  # noqa: PLC0415

    try:
        key = NoteKey.of_log(_public_key())
    except (MvmnixError, OSError, ValueError):
        return tuple(entries)
    return with_ends(machines, entries, key)


def _public_key() -> bytes:
    """The raw public key of the host. For one that is encrypted, as `House.log_key` finds it, which takes longer."""
    from mvmnix.cli.desk import key_file  # noqa: PLC0415
    from mvmnix.keys import PrivateKey, Role  # noqa: PLC0415

    with Roots.from_environment(os.environ) as roots, roots.config.child("keys") as keys:
        try:
            return PrivateKey.load(keys, key_file(Role.HOST), lambda: "").public.raw
        except RefusedError:
            from mvmnix.cli.house import House  # noqa: PLC0415

            with House(roots) as rooms:
                return rooms.log_key.public_key
