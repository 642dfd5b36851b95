"""Keeps finished builds and finds them again: images, bundles and locks by digest, and an index that nobody believes.

The index only says where to look. A build is used after its bundle, manifest and bytes verify, whatever it says.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from mvmnix import manifest
from mvmnix.errors import MvmnixError, ReasonCode, refuse
from mvmnix.model import Artifact, Digest, Image
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.slsa import HOST_NIX, Provenance
from mvmnix.provenance.verify import Verified, verify_provenance
from mvmnix.state import Directory
from mvmnix.store import Store, digest_of
from mvmnix.strict import MalformedError, Record, canonical, parse_json, read

#: Largest bundle and lock that are read, in bytes.
LIMIT = 16 * 1024 * 1024
_INDEX_LIMIT = 4096
_AGAIN = "build it again: mvm build --again FLAKE"


@dataclass(frozen=True, slots=True)
class BuildKey:
    """What a build is found by: the root tree, what of it, and the derivation of the image that builds."""

    tree: Digest
    directory: str
    attribute: str
    builder: str

    @property
    def name(self) -> str:
        """The file name of its entry in the index."""
        return Digest.of(canonical([self.tree.hex, self.directory, self.attribute, self.builder])).hex


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a build: digests of its manifest, its provenance bundle and its flake.lock, if any."""

    manifest: Digest
    bundle: Digest
    lock: Digest | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a build, as bytes that have their digests and that nobody has verified; for a gate that will."""

    image: Image
    manifest: bytes
    bundle: bytes
    lock: bytes | None


@dataclass(frozen=True, slots=True)
class Finished(Kept):
    """A build whose evidence and bytes were verified just now."""

    provenance: Verified[Provenance]


class Library:
    """Finished builds under the state directory; one for a process. A context manager."""

    def __init__(self, state: Directory) -> None:
        self._opened = ExitStack()
        images, bundles, locks, self._index = (
            self._opened.enter_context(state.child(name)) for name in ("images", "bundles", "locks", "builds")
        )
        self.images = Store(images, hint=_AGAIN)
        self._bundles = Store(bundles, hint=_AGAIN)
        self._locks = Store(locks, hint=_AGAIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def keep(
        self, key: BuildKey, image: Image, *, bundle: bytes, lock: bytes | None, policy: TrustPolicy, now: datetime
    ) -> Finished:
        """Keep a build's evidence beside its image, which is in `images` already, and find it by `key` from now on.

        It is verified first, as it will be each time that it is found. Raises RefusedError.
        """
        entry = Entry(image.manifest.digest, Digest.of(bundle), None if lock is None else Digest.of(lock))
        self._bundles.put(bundle, entry.bundle)
        if lock is not None and entry.lock is not None:
            self._locks.put(lock, entry.lock)
        finished = self.open(entry, policy=policy, now=now)
        self._index.write_atomic(key.name, _text(entry))
        return finished

    def find(self, key: BuildKey, *, policy: TrustPolicy, now: datetime) -> Finished | None:
        """A kept build of exactly this, verified as `open` does, or None. Raises RefusedError.

        What the index points at has to say itself that it was built from that tree: an entry that was swapped for that
        of another build, which verifies as well, is refused.
        """
        if not self._index.exists(key.name):
            return None
        finished = self.open(self._entry(key.name), policy=policy, now=now)
        claim = finished.provenance.claim
        said = (claim.root.nar, claim.directory, claim.attribute, claim.builder_id == HOST_NIX)
        if said != (key.tree, key.directory, key.attribute, key.builder == HOST_NIX):
            why = f"the index names a build of {claim.root.uri}#{claim.attribute}, tree {claim.root.nar}"
            hint = f"remove that entry, and build again: {self._index.where(key.name)}"
            raise refuse(ReasonCode.PROVENANCE_MISMATCH, "a kept build", why, hint)
        return finished

    def entries(self) -> Iterator[Entry]:
        """All that the index says. Nothing of it is verified yet."""
        for name in self._index.names():
            yield self._entry(name)

    def _entry(self, name: str) -> Entry:
        try:
            return read(parse_json(self._index.read(name, _INDEX_LIMIT)), "build", _entry)
        except MalformedError as error:
            hint = f"remove it, and build again: {self._index.where(name)}"
            raise MvmnixError(f"an entry of the build index is broken: {error}", hint=hint) from error

    def manifest(self, digest: Digest) -> bytes:
        """The bytes of a manifest, hashed."""
        return self.images.read(digest, limit=manifest.LIMIT)

    def bundle(self, digest: Digest) -> bytes:
        """The bytes of a bundle, hashed."""
        return self._bundles.read(digest, limit=LIMIT)

    def lock(self, digest: Digest) -> bytes:
        """The bytes of a flake.lock, hashed."""
        return self._locks.read(digest, limit=LIMIT)

    def open(self, entry: Entry, *, policy: TrustPolicy, now: datetime) -> Finished:
        """A kept build, every byte of it hashed and its provenance verified. Raises RefusedError."""
        it = self.read(entry)
        artifacts = tuple(self._hashed(artifact) for artifact in it.image.artifacts)
        provenance = verify_provenance(
            it.bundle, policy=policy, artifacts=artifacts, lock=it.lock, image=it.image, now=now
        )
        return Finished(it.image, it.manifest, it.bundle, it.lock, provenance)

    def read(self, entry: Entry) -> Kept:
        """What is kept of a build; its kernel, initrd and rootfs are left where they lie, unread."""
        described = self.manifest(entry.manifest)
        lock = None if entry.lock is None else self.lock(entry.lock)
        return Kept(manifest.parse(described), described, self.bundle(entry.bundle), lock)

    def _hashed(self, artifact: Artifact) -> Artifact:
        """What really lies in the store under that digest: provenance is compared with it, not with a promise."""
        fd = self.images.unhashed(artifact.digest)
        try:
            return Artifact(artifact.name, *digest_of(fd))
        finally:
            os.close(fd)


def _text(entry: Entry) -> bytes:
    lock = {} if entry.lock is None else {"lock": entry.lock.hex}
    return canonical({"manifest": entry.manifest.hex, "bundle": entry.bundle.hex} | lock)


def _entry(record: Record) -> Entry:
    lock = record.digest("lock") if record.has("lock") else None
    return Entry(record.digest("manifest"), record.digest("bundle"), lock)
