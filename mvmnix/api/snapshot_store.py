"""Opens a user's snapshots, and reads what they say of themselves, of which nothing is verified."""

from functools import partial

from mvmnix.api.context import Context
from mvmnix.errors import RefusedError
from mvmnix.launch.snapshots.statement import SnapshotClaim, from_statement
from mvmnix.launch.snapshots.store import Snapshots
from mvmnix.launch.templates.sealing_key import read_or_make
from mvmnix.provenance.bundle import envelope, statement
from mvmnix.provenance.bundle.statement import Statement


def open_snapshots(context: Context) -> Snapshots:
    """The snapshots that are kept here."""
    directory = context.keep(context.roots.state.child("snapshots"))
    return Snapshots(directory, partial(read_or_make, context.keys))


def read_statement(bundle: bytes) -> Statement:
    """Return the statement in a kept snapshot's bundle, unverified. Raises RefusedError, ValueError."""
    return statement.parse(envelope.parse_bundle(bundle).payload)


def read_claim(bundle: bytes) -> SnapshotClaim | None:
    """Return what a kept snapshot says, unverified; None where that can't be read."""
    try:
        return from_statement(read_statement(bundle))
    except (RefusedError, ValueError):
        return None
