"""The only importer of detect-secrets: whether a text has the form of a credential by its detectors."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.filters import heuristic
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString
from detect_secrets.plugins.ip_public import IPPublicDetector
from detect_secrets.plugins.keyword import KeywordDetector

#: Bits per character. The library's own bound, 4.5, lets most random strings of 32 letters and digits pass; the
#: caller has looked before whether letters and digits lie in an order that words don't have.
_ENTROPY: Final = 4.0
#: The kind of a value in quotes behind a word such as `password` or `key`.
IN_QUOTES: Final = "a password in quotes"
#: An address is no credential.
_NOT_ASKED: Final = (IPPublicDetector,)


def kinds_of(line: str) -> tuple[str, ...]:
    """The kinds of credential that the library's patterns see in one line."""
    return tuple(
        detector.secret_type
        for detector in _by_pattern()
        if any(_could_be_one(found, line) for found in detector.analyze_string(line))
    ) + ((IN_QUOTES,) if any(_could_be_one(it, line) for it in _keyword(line)) else ())


def named_secret(name: str, value: str) -> bool:
    """Whether a value is one that the library takes for a secret because of its name."""
    value = value.strip("\"'")
    return bool(value[:1].isalnum() and _keyword(f'{name} = "value"')) and _could_be_one(value, f"{name} = {value}")


def looks_random(run: str) -> bool:
    """Whether a run of base64's characters has more entropy than the library's bound."""
    detector = Base64HighEntropyString(limit=_ENTROPY)
    filtered = heuristic.is_sequential_string(run) or heuristic.is_potential_uuid(run)
    return not filtered and detector.calculate_shannon_entropy(run) > detector.entropy_limit


@cache
def _by_pattern() -> tuple[RegexBasedDetector, ...]:
    known: Mapping[str, Callable[[], BasePlugin]] = get_mapping_from_secret_type_to_class()
    found = [make() for make in known.values()]
    return tuple(it for it in found if isinstance(it, RegexBasedDetector) and not isinstance(it, _NOT_ASKED))


def _keyword(line: str) -> list[str]:
    return list(KeywordDetector().analyze_string(line))


def _could_be_one(found: str, line: str) -> bool:
    return not (
        heuristic.is_templated_secret(found)
        or heuristic.is_prefixed_with_dollar_sign(found)
        or heuristic.is_not_alphanumeric_string(found)
        or heuristic.is_sequential_string(found)
        or heuristic.is_indirect_reference(line)
        or found.startswith(("env:", "file:", "keyring:", "command:"))
    )
