"""Verifies the recorded ends of machines, loading as little as that takes.

Listing machines has to be fast: keys are read, and cryptography loaded, only for machines that have ended.
"""

import os
from collections.abc import Sequence

from mvmnix.api.frontend import Frontend
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.machines.registry import MachineEntry
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots


def with_verified_ends(
    machines: Directory, entries: Sequence[MachineEntry], frontend: Frontend
) -> tuple[MachineEntry, ...]:
    """The same machines, with the records of their ends where these are proven by the host's key."""
    if not any(entry.has_ended for entry in entries):
        return tuple(entries)
    from mvmnix.audit.note import NoteKey  # noqa: PLC0415
    from mvmnix.machines.recorded_ends import with_ends  # noqa: PLC0415

    try:
        key = NoteKey.of_log(_public_key(frontend))
    except (MvmnixError, OSError, ValueError):
        return tuple(entries)
    return with_ends(machines, entries, key)


def _public_key(frontend: Frontend) -> bytes:
    """The raw public key of the host. For one that is encrypted, as `Context.log_key` finds it, which takes longer."""
    from mvmnix.api.signing import key_file  # noqa: PLC0415
    from mvmnix.keys import PrivateKey, Role  # noqa: PLC0415

    with Roots.from_environment(os.environ) as roots, roots.config.child("keys") as keys:
        try:
            return PrivateKey.load(keys, key_file(Role.HOST), lambda: "").public.raw
        except RefusedError:
            from mvmnix.api.context import Context  # noqa: PLC0415

            with Context(roots, frontend) as context:
                return context.log_key.public_key
