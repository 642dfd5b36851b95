"""Opens the machines' directories, put in order, lists machines, and verifies their recorded ends; loads little.

Listing machines has to be fast. A context, with keys, policy and audit log, is opened only where a supervisor was
killed and left an end to be written down; the host's key is read, and cryptography loaded, only for machines that have
ended.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from mvmnix.api.frontend import Frontend
from mvmnix.errors import MvmnixError, RefusedError
from mvmnix.machines import cleanup, registry
from mvmnix.machines.registry import MachineEntry
from mvmnix.machines.status import is_id
from mvmnix.sandbox import uid_pool_paths
from mvmnix.system.private_dirs import Directory
from mvmnix.system.roots import Roots


@contextmanager
def open_machine_store(frontend: Frontend) -> Iterator[Directory]:
    """The machines' directories, for as long as an operation runs; what killed processes left is put in order first."""
    with Roots.from_environment(os.environ) as roots, roots.state.child("machines") as machines:
        put_in_order(roots, machines, frontend)
        yield machines


def put_in_order(roots: Roots, machines: Directory, frontend: Frontend) -> None:
    """Say what lies there and is no machine, and write down the ends that no supervisor was left to write down."""
    found = cleanup.scan_machines(machines)
    for line in found.broken:
        frontend.notice(line)
    if found.is_tidy and uid_pool_paths.are_swept(roots.paths["state"]):
        return
    from mvmnix.api.context import Context  # noqa: PLC0415 - its imports take longer than all else here
    from mvmnix.api.signing import key_file  # noqa: PLC0415 - as the line above
    from mvmnix.clock import now  # noqa: PLC0415 - as the line above
    from mvmnix.keys import Role  # noqa: PLC0415 - as the line above
    from mvmnix.sandbox import uid_pool  # noqa: PLC0415 - as the line above

    with Context(roots, frontend) as context:
        if not found.is_tidy:
            journal = context.journal if context.keys.exists(key_file(Role.HOST)) else None
            cleanup.clean_up(machines, journal, now, frontend.notice)
        uid_pool.sweep(roots.state)


def list_machines(machines: Directory, frontend: Frontend, *, ended: bool) -> tuple[MachineEntry, ...]:
    """List machines, the oldest first: those that live or are cold, with `ended` all others too; ends are verified."""
    found = [it for it in with_snapshots(machines, registry.list_entries(machines)) if ended or it.alive or it.snapshot]
    listed = with_verified_ends(machines, found, frontend)
    return tuple(it for it in listed if ended or it.alive or it.is_cold)


def inspect_machine(machines: Directory, text: str, frontend: Frontend) -> MachineEntry:
    """Return the machine with this name or id, its end verified. Raises UsageError where there is none."""
    (entry,) = with_verified_ends(machines, with_snapshots(machines, [registry.find_machine(machines, text)]), frontend)
    return entry


def with_snapshots(machines: Directory, entries: Sequence[MachineEntry]) -> tuple[MachineEntry, ...]:
    """The same machines, those that have ended with the id of the snapshot from which they may go on; unverified."""
    if not any(entry.has_ended for entry in entries):
        return tuple(entries)
    with Roots.from_environment(os.environ) as roots, ExitStack() as stack:
        try:
            directory = stack.enter_context(roots.state.existing("snapshots"))
        except FileNotFoundError:
            return tuple(entries)
        if not any(map(is_id, directory.names())):
            return tuple(entries)
        from mvmnix.api import cold_machines  # noqa: PLC0415 - only users of snapshots pay for it

        return cold_machines.add_snapshots(machines, entries, cold_machines.from_directory(directory))


def with_verified_ends(
    machines: Directory, entries: Sequence[MachineEntry], frontend: Frontend
) -> tuple[MachineEntry, ...]:
    """The same machines, with the records of their ends where these are proven by the host's key.

    The record of one that was removed meanwhile (`mvm run --rm`) is looked up in the log, which takes longer.
    """
    if not any(entry.has_ended for entry in entries):
        return tuple(entries)
    from mvmnix.audit.note import NoteKey  # noqa: PLC0415 - only machines that have ended pay for cryptography
    from mvmnix.machines.recorded_ends import with_ends  # noqa: PLC0415 - as the line above

    try:
        key = NoteKey.of_log(_public_key(frontend))
    except (MvmnixError, OSError, ValueError):
        return tuple(entries)
    found = with_ends(machines, entries, key)
    if all(machines.exists(entry.status.machine) for entry in found if entry.has_ended):
        return found
    return tuple(_with_logged_ends(found, frontend))


def _with_logged_ends(entries: Iterable[MachineEntry], frontend: Frontend) -> Iterator[MachineEntry]:
    """Add the records of ends that are missing, from the log; none where the log can't be trusted."""
    from mvmnix.api.context import Context  # noqa: PLC0415 - only ends without a record here pay for it
    from mvmnix.audit.record import RecordKind  # noqa: PLC0415 - as the line above

    with Roots.from_environment(os.environ) as roots, Context(roots, frontend) as context:
        for entry in entries:
            end = entry.end
            with suppress(RefusedError):
                if entry.has_ended and end is None:
                    records = context.journal.about(entry.status.machine)
                    end = next((it for it in records if it.kind is RecordKind.END), None)
            yield replace(entry, end=end)


def _public_key(frontend: Frontend) -> bytes:
    """The raw public key of the host. For one that is encrypted, as `Context.log_key` finds it, which takes longer."""
    from mvmnix.api.signing import key_file  # noqa: PLC0415 - only machines that have ended pay for cryptography
    from mvmnix.keys import PrivateKey, Role  # noqa: PLC0415 - as the line above

    with Roots.from_environment(os.environ) as roots, roots.config.child("keys") as keys:
        try:
            return PrivateKey.load(keys, key_file(Role.HOST), lambda: "").public.raw
        except RefusedError:
            from mvmnix.api.context import Context  # noqa: PLC0415 - only an encrypted key pays for it

            with Context(roots, frontend) as context:
                return context.log_key.public_key
