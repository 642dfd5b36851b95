"""Finds the isolation of a hardware VM, claimed for an emulated guest or a container; pure."""

import re
from collections.abc import Iterator
from typing import Final

from mvmnix.claims.passages import Passage
from mvmnix.claims.patterns import last_words, words
from mvmnix.claims.rules import Match, Rule

_EMULATED: Final = words(
    r"TCG|emulat\w+|interpreted by \w+|runc|crun|chroots?|gVisor|namespaces?",
    r"software[\s-]virtuali[sz]\w+|binary translation",
    r"(?:without|no|lacks?) (?:KVM|hardware(?: \w+)?|/dev/kvm|nested virtuali[sz]ation|VT-x)",
    r"(?:Docker |Linux |OCI |Podman |plain |ordinary )?containers?(?: \w+)?",
)
_VM: Final = r"(?:VM|virtual machine|microVM|hypervisor)s?"
_AS_A_VM: Final = words(
    r"(?:VM|microVM|hypervisor|hardware|virtual[\s-]machine|KVM)[\s-]"
    r"(?:(?:level|grade|class|strength|style|enforced|based|backed|quality)[\s-])?"
    r"(?:isolat\w+|boundar\w+|separat\w+|security|protect\w+)",
    r"(?:the )?same (?:\w+ ){0,3}(?:isolat\w+|boundar\w+|guarantees?|protection\w*|security|separation|wall\w*)",
    rf"(?:strength|isolation|security|boundary|stays that|remains that) of an? (?:\w+ ){{0,2}}{_VM}",
    r"isolation:? (?:is )?(?:the )?same as|isolat\w+ by (?:\w+ )?hardware|(?:isolation|boundary) is (?:kept|preserved)",
    r"(?:(?:just |every bit )?as|equally) (?:\w+ )?"
    r"(?:safe\w*|secure\w*|isolated|strong\w*|separate\w*|protected|good|solid)",
    r"isolat\w+ (?:like|as|equivalent|identical|on par|comparable)",
    r"(?:strong|hard|real|true|full)(?:ly)? (?:VM )?(?:isolat\w+|boundar\w+)",
    rf"(?:like|as) (?:in |with )?an? (?:real |hardware |full |true )?{_VM}",
    r"(?:no|without any) (?:difference|loss) in (?:isolation|security)|indistinguishable|on par|equivalent",
)
#: Words that say the opposite, in the six words before the comparison, or after it.
_WEAKER_BEFORE: Final = re.compile(
    r"\b(?:not|never|cannot|no substitute|weaker|less|rather than|instead of|unlike|neither|nor|although|warn\w*"
    r"|refus\w+|don.t|isn.t|doesn.t|aren.t|without|giv(?:e|es|ing) up|los(?:e|es|ing))\b",
    re.IGNORECASE,
)
_WEAKER_AFTER: Final = re.compile(
    r"\b(?:not|never|cannot|weaker|less|but|however|although|fallback|warn\w*|refus\w+|don.t|isn.t|doesn.t|aren.t)\b",
    re.IGNORECASE,
)


def check_isolation(passage: Passage) -> Iterator[Match]:
    """Yield where a paragraph about emulation or containers compares their isolation with a VM's as its equal."""
    if not _EMULATED.search(passage.text):
        return
    for begin, sentence in passage.sentences():
        found = _AS_A_VM.search(sentence)
        if found is None or _WEAKER_BEFORE.search(last_words(sentence[: found.start()], 7)):
            continue
        if not _WEAKER_AFTER.search(sentence[found.end() :]):
            hint = "say what keeps it in, and that hardware doesn't"
            yield Match(Rule.ISOLATION_OF_EMULATION, begin + found.start(), found.group(), hint)
