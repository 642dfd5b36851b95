"""Finds claims about snapshots and cold machines in sections that name no backend; pure."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from mvmnix.claims.passages import Passage, Section, is_history
from mvmnix.claims.patterns import ADVICE, blank, words
from mvmnix.claims.rules import Match, Rule

_KEPT: Final = words(
    r"snap-?shot\w*|snaps?|suspend\w*|hibernat\w*|(?-i:[Tt]haw\w*)|(?:goes|go|went) cold",
    r"checkpoint(?:ing|/restore| and restore)",
    r"checkpoints? of (?:a|the|its|each) (?:\w+ )?(?:VM|machine|guest|process|memory|sandbox)",
    r"cold[\s-](?:mode|state|storage|machines?|VMs?|guests?|sandbox\w*|workspaces?|instances?|environments?)",
    r"(?:warm|frozen|paused|sleeping|saved|dormant) (?:VMs?|machines?|guests?|state)",
)
#: Words for what could be so on one backend, and not on another.
_CLAIMED: Final = re.compile(
    r"\b(?:keep|kept|preserv|encrypt|authenticat|seal|resum|restor|surviv|includ|contain|captur|sav(?:e|ing)|hold|stor(?:e|ing)"
    r"|take|cost|consum|boot|load|verif|sign|bound|bind|detect|refus|reject|never|always|cannot|can.t|exactly|identical"
    r"|same|fast|quick|second|millisecond|secure|safe|small|under \d|within \d|copy-on-write|dedup|portable|wipe"
    r"|protect|free|no RAM|zero|leave|carr|cop(?:y|ies)|lose|lost|come back|wake"
    r"|scrub|end up|ends up)\w*|\b\d+ ?(?:ms|s|x|%)(?!\w)",
    re.IGNORECASE,
)
#: Code, and paths of documents: words in these claim nothing.
_NAMES: Final = re.compile(r"`[^`]*`|[\w./-]+\.md\b(?:#[\w-]*)?")
#: What tells a machine's snapshot from those of file systems, of metadata and of a language's heap.
_MACHINE: Final = words(
    r"(?:micro)?VMs?|virtual machines?|machines?|guests?|sandbox(?:es)?|hypervisors?|memory|RAM|workspaces?|boot\w*",
    r"secrets?|cold \w+|suspend\w*|restor\w*|wak(?:e|es|ing)|mvm",
)


@lru_cache(maxsize=16)
def _names_backend(section: Section, backends: tuple[str, ...]) -> bool:
    """Return whether a section names one of the backends, which is asked for each of its passages."""
    named = words(*(re.escape(name).replace(r"\ ", r"[\s-]") for name in backends))
    return named.search(f"{section.heading}\n{section.text}") is not None


def check_snapshots(passage: Passage, backends: Sequence[str]) -> Iterator[Match]:
    """Yield the claims about snapshots in a section that names none of the backends."""
    if (
        passage.is_code
        or is_history(passage.section.path)
        or not _MACHINE.search(f"{passage.section.heading}\n{passage.text}")
    ):
        return
    if _names_backend(passage.section, tuple(backends)):
        return
    for begin, text in passage.sentences():
        sentence = blank(_NAMES, text)
        found = _KEPT.search(sentence)
        if found is not None and not ADVICE.search(sentence) and _CLAIMED.search(_KEPT.sub("", sentence)):
            hint = "say for which backend that holds"
            yield Match(Rule.SNAPSHOT_WITHOUT_BACKEND, begin + found.start(), found.group(), hint)
