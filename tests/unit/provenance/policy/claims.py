"""Builds that a policy decides about, by who built them from what."""

from datetime import UTC, datetime

from mvmnix.digest import Digest
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.slsa.provenance import HOST_NIX, LockAccount, Provenance, RootTree, Versions

NOW = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)
COMMITTED = RootTree(f"git+https://host/repository?rev={'1' * 40}", Digest.of(b""), "1" * 40)
IMAGE = Digest.of(b"the builder image's manifest")


def by(builder_id: str) -> Provenance:
    """A provenance that names this builder, and for a builder VM its image."""
    files = () if builder_id == HOST_NIX else (Subject("kernel", Digest.of(b"k")), Subject("manifest.json", IMAGE))
    return Provenance(
        root=COMMITTED,
        directory="",
        attribute="default",
        lock=None,
        nodes=LockAccount((), (), ()),
        sources=(),
        builder_id=builder_id,
        builder_image=files,
        versions=Versions("0.1.0", "2.26.3"),
        limits=None,
        invocation="1",
        started=NOW,
        finished=NOW,
        derivation=None,
    )
