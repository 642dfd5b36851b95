"""Finds broad phrases: promises that no test can show, whatever the program does; pure."""

import re
from collections.abc import Iterator
from typing import Final

from mvmnix.claims.passages import Passage
from mvmnix.claims.patterns import last_words, words
from mvmnix.claims.rules import Match, Rule

_WHOLLY: Final = (
    r"(?:full(?:y)?|complete(?:ly)?|total(?:ly)?|perfect(?:ly)?|absolute(?:ly)?|entire(?:ly)?|wholly|truly|utterly"
    r"|100\s?%|(?:100|a hundred|one hundred) per ?cent|unconditional(?:ly)?|ultimate)"
)
_SAFE: Final = (
    r"(?:isolat\w+|secur\w+|saf(?:e|ely|ety)|sandbox\w*|protect\w*|priva\w+|tamper\w*|air-?gapped|contain(?:ed|ment))"
)
_DEFEATED: Final = r"(?:hack|crack|brok|breach|compromis|exploit|attack|stol|bypass|escap|leak|defeat)"
_DEFEAT: Final = (
    r"(?:leak|escap|break|hack|tamper|steal|exfiltrat|forg|bypass|attack|compromis|extract|read|get out|breach|crack)"
)
_START: Final = r"(?:boot|start|restor|resum|snapshot|clon|fork|launch|wak|spawn|com)"
_BROAD: Final = words(
    rf"{_WHOLLY}[\s-]+{_SAFE}",
    r"un(?:hack|crack|break|breach|exploit|bypass|beat|escap|forge|leak|defeat)\w*able",
    r"(?:impenetrab|invulnerab|inescapab|infallib|unassailab)\w+",
    r"(?:bullet|hack(?:er)?|leak|escape|fool|tamper|future|attack|exploit|breach)[\s-]?proof(?:ed|ing)?",
    r"air[\s-]?tight|iron[\s-]?clad|rock[\s-]solid|water[\s-]?tight",
    r"(?:military|bank|government|nsa|defen[cs]e)[\s-](?:grade|level|strength)",
    r"(?:zero|no)[\s-](?:risks?|leaks?|leakage|attack surface|possibility|chance|worr\w+)",
    r"risk[\s-]?free|worry[\s-]?free|peace of mind",
    rf"(?:impossible|no way|no possible way|not possible) (?:for (?:\w+ ){{1,4}})?(?:to|that \w+) (?:be )?(?:ever )?"
    rf"{_DEFEAT}\w*",
    rf"(?:can.t|can ?not|can never|could never|will never|never) (?:ever |possibly )*(?:be|get) {_DEFEATED}\w*",
    rf"instant(?:ly|aneous(?:ly)?)?[\s-]{_START}\w*",
    rf"{_START}\w* (?:\w+ )?(?:instantly|instantaneously|in no time|in a blink|at the speed of \w+)",
    rf"(?:guarantees?|guaranteed|promises?) (?:\w+ )?{_WHOLLY} \w+",
    r"guarantee[sd]? (?:you )?(?:that )?(?:nothing|no ?(?:one|body|thing)|your \w+|security|safety)",
    r"(?:nothing|no (?:one|data|secret|code|malware|attacker)\w*) (?:can|could|will) (?:ever|possibly) \w+",
    r"(?:world[\s-]class|best[\s-]in[\s-]class|unbeatable|unmatched) (?:security|isolation|protection)",
    r"no matter what (?:\w+ ){1,4}(?:does|do|runs?)",
    r"(?:a )?things? of the past",
    r"no way in(?:,| and| or|;)? (?:\w+ ){0,2}no way out",
    r"(?:are|is|you.re) guaranteed to",
)
#: Words that take a phrase back, or cite it, up to five words before it.
_TAKEN_BACK: Final = re.compile(
    r"\b(?:not|never|no|nor|neither|without|hardly|nothing|\w+n.t|cannot|avoid\w*|ban\w*|forbid\w*|instead of"
    r"|rather than|far from|such as|phrases?|claims? of|myth\w*|so-called|refus\w*|reject\w*|says?|said"
    r"|claim(?:s|ed|ing)?|call\w*)\b",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(r"\s*(?:isn.t|aren.t|is not|are not)\b", re.IGNORECASE)
_OPENED: Final = re.compile('["“`\u2018][^"”`\u2019]*$')
_CLOSED: Final = re.compile('^[^"“`\u2018]*["”`\u2019]')


def check_phrases(passage: Passage) -> Iterator[Match]:
    """Yield the broad phrases that are neither quoted nor taken back."""
    if passage.is_code:
        return
    for begin, sentence in passage.sentences():
        if sentence.rstrip().endswith("?"):
            continue
        for found in _BROAD.finditer(sentence):
            before, after = sentence[: found.start()], sentence[found.end() :]
            is_quoted = _OPENED.search(before) is not None and _CLOSED.search(after) is not None
            if not is_quoted and _TAKEN_BACK.search(last_words(before, 6)) is None and _DENIED.match(after) is None:
                hint = "say what exactly holds, for whom, and name the test that shows it"
                yield Match(Rule.BROAD_PHRASE, begin + found.start(), found.group(), hint)
