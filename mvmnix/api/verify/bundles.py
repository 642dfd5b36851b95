"""Reads files of bundles: one as JSON, several as JSON Lines."""

import json

from mvmnix.api import files
from mvmnix.api.files import file_bytes
from mvmnix.errors import UnreadableError
from mvmnix.formats import strict
from mvmnix.plural import counted
from mvmnix.provenance.bundle import envelope
from mvmnix.provenance.bundle.envelope import BUNDLE_LIMIT

#: What is found beside an artifact when no bundle was named.
SUFFIX = ".sigstore.json"
#: Bytes of a file of bundles, and how many there may be.
LIMIT = 64 * 2**20
MOST = 1024

#: Lines of one; a bundle that is set over many has some hundred.
_LINES = 2**20

_BESIDE = "name the bundle: --bundle BUNDLE"


def bundles(path: str) -> tuple[bytes, ...]:
    """The bundles of a file, or of stdin for `-`; none of them is parsed yet. Raises UsageError, UnreadableError.

    A file of which a line is a JSON object by itself, the first one or, if it is no JSON as a whole, any one, holds one
    bundle a line (JSON Lines); any other holds one.
    """
    return _several(path, file_bytes(path, LIMIT))


def beside(artifact: str) -> tuple[bytes, ...]:
    """The bundles in the file beside an artifact, which has to be a regular one. Raises as `bundles` does."""
    path = artifact + SUFFIX
    return _several(path, files.read(path, LIMIT, _BESIDE))


def _several(path: str, data: bytes) -> tuple[bytes, ...]:
    if data.count(b"\n") + data.count(b"\r") > _LINES:
        raise UnreadableError(f"{path} has more than {_LINES} lines", hint="hand in bundles, one a line or a file")
    lines = [line for line in data.splitlines() if line.strip()]
    found = tuple(lines) if _are_lines(lines, data) else (data,) if data.strip() else ()
    if len(found) > MOST:
        raise UnreadableError(f"{path} holds {counted(len(found), 'bundle')}", hint=f"hand in at most {MOST} at a time")
    return found


def canonical(path: str) -> bytes:
    """A bundle as mvm would have written it: here, and not at a launch, one in another formatting is taken too."""
    return envelope.parse_bundle(file_bytes(path, LIMIT)).to_bytes()


def canonical_in(path: str) -> bytes:
    """The same for a bundle in an image's directory, which has to be a regular file."""
    return envelope.parse_bundle(files.read(path, LIMIT, _BESIDE)).to_bytes()


def canonical_plan(path: str) -> bytes:
    """A plan's bundle in the same way; several of them, one a line, only as mvm wrote them."""
    from mvmnix.launch.gate import signatures  # noqa: PLC0415 - what is about no plan doesn't pay for it

    data = file_bytes(path, LIMIT)
    signatures.refuse_unsigned(data)
    return data if b"\n{" in data and data.startswith(b'{"dsseEnvelope"') else envelope.parse_bundle(data).to_bytes()


def _are_lines(lines: list[bytes], data: bytes) -> bool:
    if not lines or _is_whole(lines[0]):
        return bool(lines)
    if len(lines) == 1 or not any(map(_is_whole, lines)):
        return False
    if len(data) > BUNDLE_LIMIT or strict.has_many_values(data):
        return True  # as a whole it is none
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return True  # a line that is none does no harm to the others
    return False


def _is_whole(line: bytes) -> bool:
    """Whether a line looks like a whole object: those of a bundle that was set over many lines do not."""
    text = line.strip()
    return len(text) > 1 and text.startswith(b"{") and text.endswith(b"}")
