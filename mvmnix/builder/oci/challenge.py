"""Reads how a registry wants to be asked, and the token that it gives to anybody; pure.

RFC 9110, section 11.6.1; the distribution project's "Token Authentication Specification". Anonymous pulls only.
"""

import re
from typing import Final
from urllib.parse import urlencode

from mvmnix.errors import MvmnixError
from mvmnix.strict import MalformedError, Record, parse_json, read

#: Largest answer of a token service, in bytes.
LIMIT: Final = 1 << 16

_PARAMETER: Final = re.compile(r'([A-Za-z]{1,32})="([^"\\]{0,1024})"(?:\s*,\s*)?')
_WORD: Final = r"[!-~]{1,32768}"
_HINT: Final = "images that need a login are not supported: docs/oci.md"


def token_url(challenge: str, name: str) -> str:
    """Where a token for pulling from repository `name` is given out. Raises MvmnixError for another scheme.

    What is asked for is what is needed, not what the registry suggests.
    """
    scheme, _, rest = challenge.strip().partition(" ")
    parameters: dict[str, str] = {}
    position = 0
    while match := _PARAMETER.match(rest, position):
        parameters.setdefault(match[1].lower(), match[2])
        position = match.end()
    if scheme.lower() != "bearer" or position != len(rest) or not parameters.get("realm"):
        raise MvmnixError(f"the registry asks for a login that mvm does not know: {challenge[:80]!r}", hint=_HINT)
    asked = {"scope": f"repository:{name}:pull"}
    if "service" in parameters:
        asked["service"] = parameters["service"]
    realm = parameters["realm"]
    return f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"


def token(data: bytes) -> str:
    """The token in a token service's answer. Raises MvmnixError."""
    try:
        return read(parse_json(data, limit=LIMIT), "token", _token)
    except MalformedError as error:
        raise MvmnixError(f"the registry's token service gives no token: {error}", hint=_HINT) from error


def _token(record: Record) -> str:
    for name in record.names():
        record.has(name)  # times, scopes, refresh tokens
    return record.text("token" if record.has("token") else "access_token", _WORD)
