"""Keeps finished builds and finds them again: images, bundles and locks by digest, and an untrusted index.

The index only says where to look. A build is used after its bundle, manifest and bytes verify, whatever it says.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, UnreadableError, refuse
from mvmnix.formats import manifest
from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read
from mvmnix.images.file_names import MOST_BUNDLES
from mvmnix.model import Artifact, Image
from mvmnix.provenance.bundle import statement
from mvmnix.provenance.bundle.envelope import parse_bundle
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa.provenance import HOST_NIX, Provenance
from mvmnix.provenance.verify.image_layouts import ImageEvidence
from mvmnix.provenance.verify.verify import Verified, read_claim, verify_alone
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store, hash_file

#: Largest bundle and lock that are read, in bytes.
STATEMENT_LIMIT = 16 * 1024 * 1024
_INDEX_LIMIT = 16 * 1024
_AGAIN = "look at it, for it stays as it is; to have another: mvm build --again FLAKE"


class StoreDirectory(StrEnum):
    """The directories of files that are kept by digest."""

    IMAGES = "images"
    BUNDLES = "bundles"
    LOCKS = "locks"
    SBOMS = "sboms"


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
class IndexEntry:
    """What the index says of a build: digests of its manifest, its provenance bundle, and its flake.lock, if any.

    `sbom` is that of its SBOM, `parts` are those of the bundles of kept parts, which lie beside the provenance bundles.
    """

    manifest: Digest
    bundle: Digest
    lock: Digest | None
    sbom: Digest | None = None
    parts: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredImage:
    """What is kept of a build, as bytes that have their digests and aren't verified; for a gate that verifies them."""

    image: Image
    evidence: ImageEvidence


@dataclass(frozen=True, slots=True)
class VerifiedImage(StoredImage):
    """An image whose provenance passed every step just now, over the bytes of all four files; and its evidence.

    Raises ValueError for parts that don't belong together: another image than the evidence's, another bundle than the
    one that was verified, or one for another manifest.
    """

    provenance: Verified[Provenance]

    def __post_init__(self) -> None:
        evidence, described = self.evidence, Digest.of(self.evidence.manifest)
        if self.image != manifest.parse(evidence.manifest) or described not in {it.digest for it in self._subjects()}:
            raise ValueError("the provenance that was verified is of another image")

    def _subjects(self) -> tuple[Subject, ...]:
        if self.provenance.bundle != Digest.of(self.evidence.provenance):
            raise ValueError("another provenance was verified")
        return statement.parse(parse_bundle(self.evidence.provenance).payload).subjects

    @property
    def statement(self) -> object:
        """The provenance as it was signed."""
        return parse_json(parse_bundle(self.evidence.provenance).payload)


class ImageStore:
    """Finished builds under the state directory; one for a process. A context manager."""

    def __init__(self, state: Directory, notice: Callable[[str], None] = lambda _: None) -> None:
        """`notice` is told of each broken entry that is left out of a listing."""
        self._notice = notice
        self._opened = ExitStack()
        self.rooms = {
            room: Store(self._opened.enter_context(state.child(room)), hint=_AGAIN) for room in StoreDirectory
        }
        self.images = self.rooms[StoreDirectory.IMAGES]
        self._index = self._opened.enter_context(state.child("builds"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def keep(
        self,
        key: BuildKey,
        evidence: ImageEvidence,
        *,
        policy: TrustPolicy,
        now: datetime,
    ) -> VerifiedImage:
        """Keep a build's evidence beside its image, which is in `images` already, and find it by `key` from now on.

        It is verified first, as it will be each time that it is found. Raises RefusedError.
        """
        entry = self.take_in(evidence)
        finished = self.open(entry, policy=policy, now=now)
        self._index.write_atomic(key.name, _text(entry))
        return finished

    def find(self, key: BuildKey, *, policy: TrustPolicy, now: datetime) -> VerifiedImage | None:
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

    def claim(self, key: BuildKey, *, policy: TrustPolicy) -> Provenance | None:
        """What a trusted builder signed about the kept build of exactly this; its files are not looked at, nor its age.

        None without one. Raises RefusedError.
        """
        if not self._index.exists(key.name):
            return None
        return read_claim(self.bundle(self._entry(key.name).bundle), policy).provenance

    def entries(self) -> Iterator[IndexEntry]:
        """All that the index says, without broken entries. Nothing of it is verified yet."""
        for _, entry in self.index():
            yield entry

    def index(self) -> Iterator[tuple[str, IndexEntry]]:
        """The same, each under the name of its file there."""
        for name in self._index.names():
            try:
                yield name, self._entry(name)
            except FileNotFoundError:  # removed meanwhile
                continue
            except MvmnixError as error:
                self._notice(f"left out: {error}")

    def whole_index(self) -> Iterator[tuple[str, IndexEntry]]:
        """All entries by file name, for removals and names.

        Raises MvmnixError for a broken one, whose files and name aren't known.
        """
        for name in self._index.names():
            with suppress(FileNotFoundError):  # removed meanwhile
                yield name, self._entry(name)

    def take_in(self, it: ImageEvidence) -> IndexEntry:
        """Keep the evidence of an image that is in `images` already; returns what the index will say of it."""
        entry = _entry_of(it)
        for room, digest, data in (
            (StoreDirectory.LOCKS, entry.lock, it.lock),
            (StoreDirectory.SBOMS, entry.sbom, it.sbom),
            (StoreDirectory.BUNDLES, entry.bundle, it.provenance),
            *((StoreDirectory.BUNDLES, *part) for part in zip(entry.parts, it.parts, strict=True)),
        ):
            if digest is not None and data is not None:
                self.rooms[room].put(data, digest)
        return entry

    def note(self, name: str, entry: IndexEntry) -> None:
        """Have the index say that there is such a build; what it says is not trusted."""
        self._index.write_atomic(name, _text(entry))

    def forget(self, name: str) -> None:
        """Let the index say no more of a build; its files stay."""
        self._index.remove(name)

    def sweep(self, *, remove: bool) -> dict[str, int]:
        """What died writers left in the index, as `Directory.sweep` does."""
        return self._index.sweep(remove=remove)

    def _entry(self, name: str) -> IndexEntry:
        try:
            return read(parse_json(self._index.read(name, _INDEX_LIMIT)), "build", _entry)
        except (MalformedError, UnreadableError) as error:
            hint = f"remove it, and build again: {self._index.where(name)}"
            raise MvmnixError(f"an entry of the build index is broken: {error}", hint=hint) from error

    def manifest(self, digest: Digest) -> bytes:
        """The bytes of a manifest, hashed."""
        return self.images.read(digest, limit=manifest.LIMIT)

    def bundle(self, digest: Digest) -> bytes:
        """The bytes of a bundle, hashed."""
        return self.rooms[StoreDirectory.BUNDLES].read(digest, limit=STATEMENT_LIMIT)

    def lock(self, digest: Digest) -> bytes:
        """The bytes of a flake.lock, hashed."""
        return self.rooms[StoreDirectory.LOCKS].read(digest, limit=STATEMENT_LIMIT)

    def sbom(self, digest: Digest) -> bytes:
        """The bytes of an SBOM, hashed."""
        return self.rooms[StoreDirectory.SBOMS].read(digest, limit=STATEMENT_LIMIT)

    def open(self, entry: IndexEntry, *, policy: TrustPolicy, now: datetime) -> VerifiedImage:
        """A kept build, every byte of it hashed and its provenance verified. Raises RefusedError.

        An SBOM that the provenance names has to be kept beside it, and to be that one.
        """
        it = self.read(entry)
        artifacts = tuple(self._hashed(artifact) for artifact in it.image.artifacts)
        provenance = verify_alone(it.evidence, policy=policy, artifacts=artifacts, image=it.image, now=now)
        if provenance.claim.sbom != entry.sbom:
            why = f"its provenance names the SBOM {provenance.claim.sbom}, and none is kept"
            raise refuse(ReasonCode.SBOM_MISMATCH, "a kept build", why, _AGAIN)
        return VerifiedImage(it.image, it.evidence, provenance)

    def read(self, entry: IndexEntry) -> StoredImage:
        """What is kept of a build; its kernel, initrd and rootfs are left where they lie, unread."""
        described = self.manifest(entry.manifest)
        evidence = ImageEvidence(
            manifest=described,
            provenance=self.bundle(entry.bundle),
            lock=None if entry.lock is None else self.lock(entry.lock),
            sbom=None if entry.sbom is None else self.sbom(entry.sbom),
            parts=tuple(map(self.bundle, entry.parts)),
        )
        return StoredImage(manifest.parse(described), evidence)

    def _hashed(self, artifact: Artifact) -> Artifact:
        """What really lies in the store under that digest: provenance is compared with it, not with a promise."""
        fd = self.images.unhashed(artifact.digest)
        try:
            return hash_file(fd, artifact)
        finally:
            os.close(fd)


def _entry_of(it: ImageEvidence) -> IndexEntry:
    parts = tuple(map(Digest.of, it.parts))
    return IndexEntry(Digest.of(it.manifest), Digest.of(it.provenance), _digest(it.lock), _digest(it.sbom), parts)


def _digest(data: bytes | None) -> Digest | None:
    return None if data is None else Digest.of(data)


def _text(entry: IndexEntry) -> bytes:
    lock = {} if entry.lock is None else {"lock": entry.lock.hex}
    sbom = {} if entry.sbom is None else {"sbom": entry.sbom.hex}
    parts = {"parts": [each.hex for each in entry.parts]} if entry.parts else {}
    return canonical({"manifest": entry.manifest.hex, "bundle": entry.bundle.hex} | lock | sbom | parts)


def _entry(record: Record) -> IndexEntry:
    return IndexEntry(
        record.digest("manifest"),
        record.digest("bundle"),
        record.digest("lock") if record.has("lock") else None,
        record.digest("sbom") if record.has("sbom") else None,
        tuple(Digest(text) for text in record.texts("parts", r"[0-9a-f]{64}", MOST_BUNDLES))
        if record.has("parts")
        else (),
    )
