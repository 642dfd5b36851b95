"""Finds texts in the form of a credential, by the detectors of detect-secrets and by words for a password."""

import re
from collections.abc import Iterator
from typing import Final

from mvmnix.claims.passages import Passage
from mvmnix.claims.patterns import blank
from mvmnix.claims.rules import Match, Rule
from mvmnix.launch.secrets.credentials import RANDOM, kinds_by_form
from mvmnix.launch.secrets.detectors import IN_QUOTES

#: Letters with a digit or a sign among them, and no reference to a secret.
_VALUE: Final = r"(?!(?:env|file|keyring|command):)(?=[^`\"'\s]*[A-Za-z])(?=[^`\"'\s]*[^A-Za-z`\"'\s-])[^`\"'\s<$]{8,}"
#: A password in prose, a value of a field, and a password that a command gets.
_TOLD: Final = re.compile(
    rf"\b(?:password|passphrase)\b[\s:=]*(?:is |of )?(?P<quote>[`\"']){_VALUE}(?P=quote)"
    rf"|(?:passw(?:or)?d|secret|token|api_?key)\w*[\"']?\s*[:=]\s*[\"'](?=\S*\d){_VALUE}[\"']"
    rf"|\b\w*(?:PASSW(?:OR)?D|SECRET|TOKEN|API_?KEY)=(?=\S*\d){_VALUE}(?!\S)"
    rf"|\bpassword:\s+(?=\S*\d){_VALUE}(?!\S)"
    rf"|\blogin\b.*\s(?:-p|--password)[ =](?=\S*\d){_VALUE}(?!\S)",
    re.IGNORECASE,
)
#: What a random string has to stand beside.
_SECRET: Final = re.compile(r"(?i)secret|token|passw|passphrase|hook|api[_ -]?key|license|private|bearer")
#: What services publish for examples, and a word in the place of a password.
_STAND_IN: Final = re.compile(r"\S*EXAMPLE\S*|\S*:(?:token|password|passwd|pass|pw|secret|\*+|x+)@")


def check_credentials(passage: Passage) -> Iterator[Match]:
    """Yield a match for each kind of credential in a passage; the credential isn't repeated."""
    text = blank(_STAND_IN, passage.text)
    kinds = set(kinds_by_form(text)) - {IN_QUOTES}  # any word behind `key` is one, also in prose: _TOLD is narrower
    if not _SECRET.search(text):
        kinds.discard(RANDOM)  # an identifier, or a public key
    if _TOLD.search(text):
        kinds.add("a password")
    for kind in sorted(kinds):
        hint = "name a reference to a secret, or a stand-in such as <token>"
        yield Match(Rule.CREDENTIAL, _offset(text, kind), kind, hint)


def _offset(text: str, kind: str) -> int:
    """Return where the word begins that has the form of this kind, else the text."""
    return next((word.start() for word in re.finditer(r"\S+", text) if kind in kinds_by_form(word.group())), 0)
