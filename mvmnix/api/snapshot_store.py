"""Opens a user's snapshots, and reads what they say of themselves, of which nothing is verified."""

from collections.abc import Mapping
from functools import partial

from mvmnix.api.context import Context
from mvmnix.errors import RefusedError
from mvmnix.launch.snapshots.statement import SnapshotClaim, from_statement
from mvmnix.launch.snapshots.store import ListedSnapshot, Snapshots
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


def read_claim(kept: ListedSnapshot) -> SnapshotClaim | None:
    """Return what a kept snapshot says, unverified; None where that can't be read, or is about another one."""
    try:
        claim = from_statement(read_statement(kept.bundle))
    except (RefusedError, ValueError):
        return None
    return claim if claim.id == kept.id else None


def read_ends(snapshots: Snapshots) -> Mapping[str, SnapshotClaim]:
    """Return by machine what the snapshots say with which machines of this host ended; unverified. Raises OSError."""
    claims = filter(None, map(read_claim, snapshots.list()))
    ends = [claim for claim in claims if claim.ended_with and claim.imported is None]  # else it is another host's
    return {claim.machine: claim for claim in sorted(ends, key=lambda claim: claim.created)}
