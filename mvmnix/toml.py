"""Reads the bytes of a TOML file that people wrote, of a bounded size; strict.py reads what stands in it; pure."""

import tomllib

from mvmnix.strict import MalformedError


def parse(data: bytes, *, limit: int) -> object:
    """TOML 1.0 in UTF-8, `limit` bytes of it at most. Raises MalformedError."""
    if len(data) > limit:
        raise MalformedError(f"larger than {limit} bytes")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not TOML in UTF-8: {error}") from error
