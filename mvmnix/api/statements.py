"""Finds signed statements that are kept here: all about an image, or those that a log's records name."""

from collections.abc import Iterator
from itertools import product, starmap

from mvmnix.api.context import Context
from mvmnix.api.kept_plans import plans_for
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError
from mvmnix.images.rebuilds import RebuildStore
from mvmnix.images.store import StoreDirectory
from mvmnix.machines import registry
from mvmnix.machines.machine_dir import PLAN, RECEIPT, machine_ids, read_kept
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT

#: The kinds of statement, in the order in which they are collected.
STATEMENT_KINDS = ("provenance", "parts", "rebuild", "plan", "receipt")


def signed_about(context: Context, digest: str) -> dict[Digest, tuple[str, bytes]]:
    """Kind and bundle, by the bundle's digest, for the image whose manifest has this digest, or begins with it.

    None is verified here; who receives them has to do that. Raises UsageError for an image that isn't kept.
    """
    found = dict[Digest, tuple[str, bytes]]()
    with context.working():
        for kind, data in _statements(context, digest):
            found.setdefault(Digest.of(data), (kind, data))
    return found


def _statements(context: Context, digest: str) -> Iterator[tuple[str, bytes]]:
    entries = [entry for _, entry in context.kept_images.find(digest)]
    manifest = entries[0].manifest
    yield from (("provenance", context.library.bundle(entry.bundle)) for entry in entries)
    yield from (("parts", context.library.bundle(part)) for entry in entries for part in entry.parts)
    yield from (("rebuild", data) for data in RebuildStore(context.roots.state).bundles(manifest))
    yield from (("plan", data) for plan in plans_for(context, manifest) for data in plan.splitlines())
    for status in (entry.status for entry in registry.list_entries(context.machines)):
        if status.manifest != manifest:
            continue
        for kind, name in (("plan", PLAN), ("receipt", RECEIPT)):
            kept = read_kept(context.machines, status.machine, name)
            yield from ((kind, data) for data in (kept or b"").splitlines())


class StatementFinder:
    """Finds what records name: plans and bundles by their digest, the machines' plans and receipts beside them.

    The plan of `mvm run` is kept in its machine's directory alone.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._beside: dict[Digest, bytes] | None = None

    def find(self, digest: Digest) -> bytes | None:
        """The bytes with this digest, if they are kept."""
        for store in (self._context.plans, self._context.library.rooms[StoreDirectory.BUNDLES]):
            if store.has(digest):
                return store.read(digest, limit=BUNDLE_LIMIT)
        if self._beside is None:
            files = product(machine_ids(self._context.machines), (PLAN, RECEIPT))
            self._beside = {Digest.of(data): data for data in filter(None, starmap(self._file, files))}
        return self._beside.get(digest)

    def _file(self, machine: str, name: str) -> bytes | None:
        """Whatever can't be read is not what a record names."""
        try:
            with self._context.machines.existing(machine) as home:
                return home.read(name, BUNDLE_LIMIT)
        except (OSError, MvmnixError):
            return None
