"""Writes the question for a registry's token, and reads the token that it gives to every client; pure.

RFC 9110, section 11.6.1; the distribution project's "Token Authentication Specification". Anonymous pulls only. The
download worker takes challenge and answer apart (builder/fetch/worker/documents.py).
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from mvmnix.errors import MvmnixError

#: Largest answer of a token service, in bytes.
LIMIT: Final = 1 << 16

_WORD: Final = re.compile(r"[!-~]{1,32768}")
_HINT: Final = "images that need a login are not supported: docs/oci.md"


def token_url(texts: Sequence[str], name: str) -> str:
    """Where a token for pulling from repository `name` is given out, by realm and service of a challenge.

    What is asked for is what is needed, not what the registry suggests. Raises MvmnixError.
    """
    if len(texts) != 2:
        raise unknown("it is not a challenge for a bearer token")
    realm, service = texts
    asked = {"scope": f"repository:{name}:pull"} | ({"service": service} if service else {})
    return f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"


def token(texts: Sequence[str]) -> str:
    """The token in a token service's answer. Raises MvmnixError."""
    match texts:
        case [text] if _WORD.fullmatch(text):
            return text
        case _:
            raise none("it is not printable ASCII")


def unknown(why: str) -> MvmnixError:
    """What to say of another challenge."""
    return MvmnixError(f"the registry asks for a login that mvm does not know: {why}", hint=_HINT)


def none(why: str) -> MvmnixError:
    """What to say of an answer without a token."""
    return MvmnixError(f"the registry's token service gives no token: {why}", hint=_HINT)
