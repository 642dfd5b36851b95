"""Remembers which parts are kept, for each domain of trust, and hands out those whose signed statements verify.

A domain is mvm's own tree and the builder image that built: parts of one never enter a build of another. The book only
says where to look: a part counts when a statement that verifies now names its path and its archive's digest.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mvmnix.builder.session.supply import Part
from mvmnix.errors import MvmnixError
from mvmnix.model import Digest, StorePath
from mvmnix.provenance import parts as claims
from mvmnix.provenance.policy import TrustPolicy
from mvmnix.provenance.verify import Verified, verify_parts
from mvmnix.state import Directory
from mvmnix.store import Store
from mvmnix.strict import MalformedError, Record, canonical, parse_json, read

LIMIT: Final = 4 * 1024 * 1024
_PATH: Final = r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+._?=-]{1,211}"


@dataclass(frozen=True, slots=True)
class Page:
    """What the book says of one domain: all parts that there are (derivation to path), and those that are kept."""

    known: Mapping[str, StorePath]
    kept: tuple[Part, ...]


EMPTY: Final = Page({}, ())


@dataclass(frozen=True, slots=True)
class Stock:
    """The parts of a domain that verified just now, and the bundles that vouch for them, by digest.

    `final` when nothing is to be added to it, whatever could be.
    """

    page: Page
    parts: tuple[Part, ...]
    bundles: Mapping[Digest, bytes]
    statements: Mapping[Digest, Verified[claims.Parts]]
    final: bool = False

    def lacks(self, derivations: Collection[str]) -> bool:
        """Whether a build of these derivations is made of parts that could be kept and aren't."""
        if self.final or not self.page.known:
            return not self.final
        have = {part.path for part in self.parts}
        return any(name in self.page.known and self.page.known[name] not in have for name in derivations)


#: For a build that is to have no kept part.
NOTHING_KEPT: Final = Stock(EMPTY, (), {}, {}, final=True)


class PartBook:
    """The book, in a directory of its own; bundles lie in `bundles`, archives in the source store."""

    def __init__(self, directory: Directory, bundles: Store) -> None:
        self._directory = directory
        self._bundles = bundles

    def stock(self, domain: Digest, *, policy: TrustPolicy, now: datetime) -> Stock:
        """What is kept for a domain, verified. Raises RefusedError, and MvmnixError where the book can't be read."""
        page = self._page(domain)
        bundles = {digest: self._bundles.read(digest, limit=LIMIT) for digest in {part.bundle for part in page.kept}}
        statements = {digest: verify_parts(data, policy=policy, now=now) for digest, data in bundles.items()}
        vouched = {
            (digest, it.path, it.nar) for digest, statement in statements.items() for it in statement.claim.parts
        }
        parts = tuple(part for part in page.kept if (part.bundle, part.path, part.nar) in vouched)
        return Stock(page, parts, bundles, statements)

    def add(
        self, domain: Digest, known: Mapping[str, StorePath], parts: tuple[Part, ...], bundle: bytes | None
    ) -> None:
        """Write down which parts a domain has, and what was built of them, in place of what was said of these paths."""
        if bundle is not None:
            self._bundles.put(bundle, Digest.of(bundle))
        new = {part.path for part in parts}
        kept = (*(part for part in self._page(domain).kept if part.path not in new), *parts)
        self.write(domain, Page(known, tuple(sorted(kept, key=lambda part: part.path))))

    def forget(self, domain: Digest) -> None:
        """Say nothing more of a domain."""
        self._directory.remove(domain.hex)

    def write(self, domain: Digest, page: Page) -> None:
        """Replace a domain's page."""
        self._directory.write_atomic(domain.hex, _text(page))

    def needed(self) -> Iterator[Part]:
        """All parts of all domains, for whoever clears up."""
        for name in self._directory.names():
            yield from self._page(Digest(name)).kept

    def _page(self, domain: Digest) -> Page:
        if not self._directory.exists(domain.hex):
            return EMPTY
        try:
            return read(parse_json(self._directory.read(domain.hex, LIMIT)), "parts", _page)
        except MalformedError as error:
            hint = f"remove it; the parts are built again then: {self._directory.where(domain.hex)}"
            raise MvmnixError(f"the list of kept parts is broken: {error}", hint=hint) from error


def _text(page: Page) -> bytes:
    kept = [
        {
            "path": str(part.path),
            "nar": part.nar.hex,
            "size": part.size,
            "references": [str(path) for path in part.references],
            "bundle": part.bundle.hex,
        }
        for part in page.kept
    ]
    return canonical({"known": {name: str(path) for name, path in sorted(page.known.items())}, "kept": kept})


def _page(record: Record) -> Page:
    known = record.child("known", lambda it: {name: StorePath.parse(it.text(name, _PATH)) for name in it.names()})
    return Page(known, record.each("kept", _part, 1 << 14))


def _part(record: Record) -> Part:
    return Part(
        StorePath.parse(record.text("path", _PATH)),
        record.digest("nar"),
        record.integer("size", 0, 2**53),
        tuple(map(StorePath.parse, record.texts("references", _PATH, 1 << 12))),
        record.digest("bundle"),
    )
