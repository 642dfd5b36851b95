"""Applies the rules to the files of a project: findings in the order of their lines, and an inventory of claims."""

import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Final, override

from mvmnix.claims.allowances import Allowance, find_allowances
from mvmnix.claims.assurances import check_assurances, find_claims
from mvmnix.claims.broad_phrases import check_phrases
from mvmnix.claims.credentials import check_credentials
from mvmnix.claims.emulation import check_isolation
from mvmnix.claims.image_references import check_references
from mvmnix.claims.labels import check_labels, find_status
from mvmnix.claims.markdown import blank_fences
from mvmnix.claims.passages import Passage, Section, is_markdown, read_passages, read_sections
from mvmnix.claims.rules import Match, Rule
from mvmnix.claims.settings import ClaimSettings
from mvmnix.claims.snapshots import check_snapshots
from mvmnix.claims.witnesses import Read, Witness, find_in_row, find_witnesses, why_missing
from mvmnix.suggestion import did_you_mean

_LINK: Final = re.compile(r"\]\(([^)\s#]{0,255})(?:#([^)\s]{0,255}))?\)")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A finding: the file's path, line and column, both from 1; the rule, the words, and a hint what to do."""

    path: str
    line: int
    column: int
    rule: Rule
    words: str
    hint: str

    @override
    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.rule}: {self.words}: {self.hint}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A security claim: its place, its sentence, "planned", "preview" or "available", and its witnesses."""

    path: str
    line: int
    sentence: str
    status: str
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A file of the project: its path, its text, and the passages of that."""

    path: str
    text: str
    passages: tuple[Passage, ...]


class Linter:
    """Applies a project's settings to its files; reads others of its files where one names or links to them."""

    def __init__(self, settings: ClaimSettings, read: Read, outcomes: Mapping[str, str]) -> None:
        """Make one; `outcomes` are those of witnesses in a given run, by name (witnesses.why_missing)."""
        self._settings = settings
        self._read = read
        self._outcomes = outcomes
        self._linked: dict[str, tuple[Section, ...]] = {}
        self._in_page: dict[str, tuple[Witness, ...]] = {}

    def read(self, path: str, data: bytes) -> Document:
        """Read one file of the project. Raises ValueError for bytes that aren't text."""
        text = data.decode("utf-8-sig")
        self._linked[path] = tuple(read_sections(path, text))
        return Document(path, text, tuple(read_passages(path, text)))

    def lint(self, document: Document) -> tuple[Finding, ...]:
        """Return what is found in one file."""
        path = document.path
        found = {*self._find_in_passages(path, document.passages), *self._find_missing(path, document.text)}
        exempt = self._exempt(path)
        found = {finding for finding in found if finding.rule not in exempt}
        allowances = tuple(find_allowances(path, document.text, document.passages))
        kept = {finding for finding in found if not any(_allows(each, finding) for each in allowances)}
        return tuple(sorted({*kept, *_find_needless(path, allowances, found)}))

    def find_claims(self, document: Document) -> tuple[Claim, ...]:
        """Return the security claims of one file, with what witnesses them."""
        if Rule.CLAIM_WITHOUT_WITNESS in self._exempt(document.path):
            return ()
        return tuple(
            Claim(
                document.path, passage.place(offset).line, sentence, status, tuple(map(str, self._witnesses(passage)))
            )
            for passage in document.passages
            for offset, _, sentence in find_claims(passage)
            for status in (find_status(passage) or "available",)
        )

    def _find_in_passages(self, path: str, passages: tuple[Passage, ...]) -> Iterator[Finding]:
        checks = (
            check_phrases,
            partial(check_assurances, has_witness=self._has_witness),
            partial(check_labels, features=self._settings.features),
            check_references,
            check_credentials,
            partial(check_snapshots, backends=self._settings.backends),
            check_isolation,
        )
        for passage in passages:
            for match in (match for check in checks for match in check(passage)):
                yield _finding(path, passage, match)

    def _find_missing(self, path: str, text: str) -> Iterator[Finding]:
        shown = blank_fences(text) if is_markdown(path) else text
        ends = [found.end() for found in re.finditer("\n", shown)]
        for witness in find_witnesses(shown):
            if why := self._why_missing(witness):
                line = bisect_right(ends, witness.offset)
                column = witness.offset - (ends[line - 1] if line else 0) + 1
                hint = f"{why}: name a test that runs"
                yield Finding(path, line + 1, column, Rule.MISSING_WITNESS, str(witness), hint)

    def _exempt(self, path: str) -> frozenset[Rule]:
        pure = PurePosixPath(path)
        return frozenset(
            rule
            for exemption in self._settings.exempt
            if any(pure.full_match(pattern) for pattern in exemption.paths)
            for rule in exemption.rules
        )

    def _has_witness(self, passage: Passage) -> bool:
        return next(self._witnesses(passage), None) is not None

    def _witnesses(self, passage: Passage) -> Iterator[Witness]:
        """Yield the witnesses of its section, else of its page, else of the sections that the passage links to."""
        own = find_in_row(passage.section.prose, passage.text)
        if own is None:
            own = _find_in_section(passage.section) or self._find_in_page(passage.section.path)
        yield from own
        if own:
            return
        for target, anchor in _LINK.findall(passage.text):
            for section in self._sections(passage.section.path, target):
                if not anchor or section.anchor == anchor:
                    yield from (each for each in _find_in_section(section) if not self._why_missing(each))

    def _why_missing(self, witness: Witness) -> str:
        return why_missing(witness, self._read, self._outcomes)

    def _find_in_page(self, path: str) -> tuple[Witness, ...]:
        """Return those of a page's section that is called Witnesses."""
        if path not in self._in_page:
            titled = (each for each in self._linked[path] if each.anchor in {"witness", "witnesses"})
            self._in_page[path] = tuple(witness for each in titled for witness in _find_in_section(each))
        return self._in_page[path]

    def _sections(self, path: str, target: str) -> tuple[Section, ...]:
        """Return the sections of a linked document of the project, none of what is no such."""
        if _SCHEME.match(target):
            return ()
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
        if linked not in self._linked:
            data = self._read(linked) if linked.endswith(".md") else None
            self._linked[linked] = tuple(read_sections(linked, (data or b"").decode(errors="replace")))
        return self._linked[linked]


@lru_cache(maxsize=16)
def _find_in_section(section: Section) -> tuple[Witness, ...]:
    """Return the witnesses of a section, which is asked for each of its claims."""
    return tuple(find_witnesses(section.prose))


def _finding(path: str, passage: Passage, match: Match) -> Finding:
    place = passage.place(match.offset)
    return Finding(path, place.line, place.column, match.rule, match.words, match.hint)


def _allows(allowance: Allowance, finding: Finding) -> bool:
    return allowance.has_reason and finding.rule in allowance.rules and finding.line in allowance.lines


def _find_needless(path: str, allowances: tuple[Allowance, ...], found: set[Finding]) -> Iterator[Finding]:
    for allowance in allowances:
        for name in allowance.rules:
            if hint := _why_needless(allowance, name, found):
                yield Finding(path, allowance.line, 1, Rule.NEEDLESS_ALLOWANCE, name, hint)


def _why_needless(allowance: Allowance, name: str, found: set[Finding]) -> str:
    """Return what is wrong with a name in an allowance, "" where it allows something."""
    if name not in Rule:
        return f"there is no such rule; {did_you_mean(name, Rule)}docs/reference/claim-lint.md lists them"
    if not allowance.has_reason:
        return "it allows nothing without a reason: `claims: allow RULE: WHY`"
    if any(finding.rule == name and finding.line in allowance.lines for finding in found):
        return ""
    return "nothing is found there: take the comment away"
