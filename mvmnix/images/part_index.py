"""Remembers which parts are kept, for each domain of trust, and hands out those whose signed statements verify.

A domain is mvm's own tree and the builder image that built: parts of one never enter a build of another. The book only
says where to look. A part counts when

1. a parts statement lies under the digest that the book names, and verifies now, under the policy in force;
2. that statement is about the domain's tree, built by the domain's builder image;
3. it lists this very path with this very digest of its archive;
4. there is an archive under that digest, which is hashed when it is handed out.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.digest import Digest, is_digest
from mvmnix.errors import MvmnixError
from mvmnix.formats.strict import MalformedError, Record, canonical, parse_json, read
from mvmnix.model import StorePath
from mvmnix.provenance.bundle.statement import Subject
from mvmnix.provenance.policy.policy import TrustPolicy
from mvmnix.provenance.slsa import parts as claims
from mvmnix.provenance.slsa.provenance import KeptPath
from mvmnix.provenance.verify.verify import Verified, verify_parts
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store

LIMIT: Final = 4 * 1024 * 1024
_PATH: Final = r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+._?=-]{1,211}"


@dataclass(frozen=True, slots=True)
class PartDomain:
    """Who built from what: mvm's own tree, by its archive, and the files of the builder image."""

    tree: Digest
    builder: tuple[Subject, ...]

    @property
    def name(self) -> str:
        """The name of its page."""
        return Digest.of(canonical([self.tree.hex, *([it.name, it.digest.hex] for it in self.builder)])).hex

    def made(self, it: claims.Parts) -> bool:
        """Whether these parts are of this domain."""
        return (it.provenance.root.nar, it.provenance.builder_image) == (self.tree, self.builder)


@dataclass(frozen=True, slots=True)
class Page:
    """What the book says of one domain: all parts that there are (derivation to path), and those that are kept."""

    known: Mapping[str, StorePath]
    kept: tuple[KeptPath, ...]


EMPTY: Final = Page({}, ())


@dataclass(frozen=True, slots=True)
class KeptParts:
    """The parts of a domain that verified just now, and the bundles that vouch for them, by digest.

    `final` when nothing is to be added to it, whatever could be.
    """

    page: Page
    parts: tuple[KeptPath, ...]
    bundles: Mapping[Digest, bytes]
    statements: Mapping[Digest, Verified[claims.Parts]]
    final: bool = False

    def lacking(self, derivations: Collection[str]) -> tuple[str, ...]:
        """Those of these derivations whose part could be kept and isn't; all, while what could be isn't known yet."""
        if self.final or not self.page.known:
            return () if self.final else tuple(derivations)
        have = {part.path for part in self.parts}
        return tuple(name for name in derivations if name in self.page.known and self.page.known[name] not in have)

    def lacks(self, derivations: Collection[str]) -> bool:
        """Whether a build of these derivations is made of such parts."""
        return bool(self.lacking(derivations))


#: For a build that is to have no kept part.
NOTHING_KEPT: Final = KeptParts(EMPTY, (), {}, {}, final=True)


class PartIndex:
    """The book, in a directory of its own; bundles lie in `bundles`, archives in `archives`, the source store."""

    def __init__(self, directory: Directory, bundles: Store, archives: Store) -> None:
        self._directory = directory
        self._bundles = bundles
        self._archives = archives

    def stock(self, domain: PartDomain, *, policy: TrustPolicy, now: datetime) -> KeptParts:
        """What is kept for a domain, verified. Raises RefusedError, and MvmnixError where the book can't be read."""
        page = self._page(domain.name)
        bundles = {digest: self._bundles.read(digest, limit=LIMIT) for digest in {part.bundle for part in page.kept}}
        statements = {digest: verify_parts(data, policy=policy, now=now) for digest, data in bundles.items()}  # 1
        ours = {digest: statement for digest, statement in statements.items() if domain.made(statement.claim)}  # 2
        vouched = {KeptPath(it.path, it.nar, digest) for digest, each in ours.items() for it in each.claim.parts}
        parts = tuple(part for part in page.kept if part in vouched and self._archives.has(part.nar))  # 3, 4
        return KeptParts(page, parts, {digest: bundles[digest] for digest in ours}, ours)

    def add(
        self, domain: PartDomain, known: Mapping[str, StorePath], parts: tuple[KeptPath, ...], bundle: bytes | None
    ) -> None:
        """Write down which parts a domain has, and what was built of them, in place of what was said of these paths."""
        if bundle is not None:
            self._bundles.put(bundle, Digest.of(bundle))
        new = {part.path for part in parts}
        kept = (*(part for part in self._page(domain.name).kept if part.path not in new), *parts)
        page = Page(known, tuple(sorted(kept, key=lambda part: part.path)))
        self._directory.write_atomic(domain.name, _text(page))

    def forget(self, domain: PartDomain) -> None:
        """Say nothing more of a domain."""
        self._directory.remove(domain.name)

    def needed(self) -> Iterator[KeptPath]:
        """All parts of all domains, for callers that clear up. Raises MvmnixError for a page that can't be read."""
        for name in self._directory.names():
            if is_digest(name):
                yield from self._page(name).kept

    def _page(self, name: str) -> Page:
        if not self._directory.exists(name):
            return EMPTY
        try:
            return read(parse_json(self._directory.read(name, LIMIT)), "parts", _page)
        except MalformedError as error:
            hint = f"remove it; the parts are built again then: {self._directory.where(name)}"
            raise MvmnixError(f"the list of kept parts is broken: {error}", hint=hint) from error


def _text(page: Page) -> bytes:
    kept = [{"path": str(part.path), "nar": part.nar.hex, "bundle": part.bundle.hex} for part in page.kept]
    return canonical({"known": {name: str(path) for name, path in sorted(page.known.items())}, "kept": kept})


def _page(record: Record) -> Page:
    known = record.child("known", lambda it: {name: StorePath.parse(it.text(name, _PATH)) for name in it.names()})
    return Page(known, record.each("kept", _part, 1 << 14))


def _part(record: Record) -> KeptPath:
    return KeptPath(StorePath.parse(record.text("path", _PATH)), record.digest("nar"), record.digest("bundle"))
