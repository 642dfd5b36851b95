"""Finds security claims that name no witness: that something can't be done to what is guarded, or always is; pure."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from mvmnix.claims.labels import find_status
from mvmnix.claims.passages import Passage, is_history
from mvmnix.claims.patterns import ADVICE, words
from mvmnix.claims.rules import Match, Rule
from mvmnix.claims.settings import Status

#: Nouns for what is guarded, and against whom.
_SUBJECTS: Final = words(
    r"(?:guest|host|hypervisor|sandbox\w*|secret|key|credential|token|password|network|packet|traffic|egress|attacker)s?",
    r"(?:attack|plan|image|snapshot|escape|workload|container|VM|microVM|machine|process|user|root|file|log|record)(?:e?s)?",
    r"(?:signature|artifact|layer|disk|memory|code|kernel|agent|data|state|environment|connection|request|tenant)s?",
    r"(?:malware|build|provenance|bundle|statement|policy|policie|syscall|system call|socket|address|addresse|route)s?",
    r"(?:metadata|value|byte|program|task|job|caller|command|descriptor|director(?:y|ie)|path|device|port|name|rule)s?",
    r"(?:attestation|release|operator|entry|entrie|ledger|certificate|plugin|server|service|client|home|header)s?",
)
_ACTS: Final = (
    r"(?:read|see|reach|access|writ|chang|modif|tamper|escap|leak|leav|open|connect|steal|forg|alter|bypass|exfiltrat"
    r"|touch|learn|resolv|observ|inspect|inject|replay|reus|replac|swap|spoof|impersonat|decrypt|recover|extract|cross"
    r"|get out|break out|get|talk|contact|load|execut|run|start|overwrit|downgrad|strip|delet|remov|edit|reorder"
    r"|truncat|print|stor|expos|shar|sniff|mount|persist|end up|appear|land|travel|pass|slip|enter|obtain|gain"
    r"|influenc|affect|hid|tell|guess|brute|surviv|outliv)"
)
_DONE: Final = (
    r"(?:refused|rejected|denied|blocked|dropped|prevented|encrypted|authenticated|verified|sealed|wiped|zeroed|erased"
    r"|isolated|confined|redacted|masked|scrubbed|protected|signed|stripped|quarantined|enforced|validated"
    r"|detected|killed|forbidden|prohibited)"
)
#: Verbs that guard whatever their object is, and verbs that do so only for all of them, or against something.
_GUARDS: Final = r"(?:prevent|protect|guard|guarantee|shield|defend|encrypt|authenticat|redact|scrub|wip)"
_MAY_GUARD: Final = r"(?:ensur|block|stop|isolat|confin|secur|den(?:i|y)|refus|reject|enforc|verif|strip|drop)"
_CLAIM: Final = words(
    rf"(?:can.t|can ?not|can never|could never|never|unable to|no longer|won.t) (?:\w+ ){{0,2}}{_ACTS}\w*",
    rf"(?:will not|will never|incapable of|no way (?:to|for .{{1,30}} to)) (?:\w+ ){{0,2}}{_ACTS}\w*",
    rf"(?:no|none of the|nothing|neither) (?:[\w-]+ ){{0,6}}?(?:can|could|may|will|ever) (?:be |ever )*{_ACTS}\w*",
    rf"(?:no|none of the|nothing|neither) (?:[\w-]+ ){{0,4}}?(?!changes\b){_ACTS}\w*",
    rf"(?:nobody|no ?one|no \w+ who) (?:[\w-]+ ){{0,6}}?(?:(?:can|could|may|will|ever|gets to|is able to) )*{_ACTS}\w*",
    rf"(?:isn.t|aren.t|not) able to {_ACTS}\w*",
    r"(?:stays?|remains?|is|are) (?:hidden|invisible|inaccessible|unreachable|immutable|secret|confidential)",
    r"rules? out|is impossible|(?:is|are) (?:always |only )?checked against",
    r"no (?:route|path|way|access|right|means) (?:to|into|out)",
    rf"(?:is|are|gets?|be) (?:\w+ ){{0,2}}{_DONE}",
    rf"{_GUARDS}(?:s|es|ed|e|ies)?(?: [\w-]+){{0,4}} (?:from|against|that|every|all|any|each|the|your|its)",
    rf"{_MAY_GUARD}(?:s|es|ed|e|ies)?(?: [\w-]+){{0,4}} (?:from|against|that (?:no|only|every|all)|every|all|any|each)",
    rf"only (?:[\w-]+ ){{1,5}}(?:can|may|is able to|are able to) {_ACTS}\w*",
    r"tamper[\s-]evident|end[\s-]to[\s-]end[\s-]encrypted",
)
_NEGATED: Final = r"(?:does|do|did|is|are|was|will|can|could|has|have) ?(?:not|n.t) (?:\w+ ){0,3}"
#: Words of a sentence that admits a gap, or states a wish.
_ADMITTED: Final = re.compile(
    rf"{_NEGATED}(?:prevent|protect|guard|ensur|guarante|stop|defend|shield|encrypt|verif|check|authenticat|enforc)"
    rf"|{_NEGATED}(?:isolat|sign|cover|bounded|detect|yet|a security)"
    r"|\b(?:out of scope|non-?goals?|limitations?|unless|except|best[- ]effort|planned|todo|would like|should be)\b"
    r"|\b(?:may still|can still|still (?:can|see|read|reach)|might|known (?:issue|bug|gap)\w*|we.d like|ensure your)\b",
    re.IGNORECASE,
)


def find_claims(passage: Passage) -> Iterator[tuple[int, str, str]]:
    """Yield the security claims of a passage: the offset of their words, these, and the sentence."""
    if passage.is_code or is_history(passage.section.path):
        return
    for begin, sentence in passage.sentences():
        if ADVICE.search(sentence) or _ADMITTED.search(sentence) or not _SUBJECTS.search(sentence):
            continue
        if (found := _CLAIM.search(sentence)) is not None:
            yield begin + found.start(), found.group(), sentence


def check_assurances(passage: Passage, has_witness: Callable[[Passage], bool]) -> Iterator[Match]:
    """Yield the security claims of a passage that has no witness; what is planned needs none.

    `has_witness` is asked only where there is a claim.
    """
    claims = tuple(find_claims(passage))
    if not claims or find_status(passage) is Status.PLANNED or has_witness(passage):
        return
    for offset, text, _ in claims:
        hint = "name the test that fails when this stops being true, as Witness: tests/…::test_…"
        yield Match(Rule.CLAIM_WITHOUT_WITNESS, offset, text, hint)
