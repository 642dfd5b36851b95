"""Names of evidence beside an artifact, or an image's four files; text alone, which every reader can load."""

from typing import Final

#: Of a bundle, behind its artifact's name.
BUNDLE_SUFFIX: Final = ".sigstore.json"
#: In exports and archives.
BUNDLE_NAME: Final = "provenance.sigstore.json"
LOCK_NAME: Final = "flake.lock"
#: The bundles of kept parts that the provenance names, one a line: canonical JSON has no line breaks.
PARTS_NAME: Final = "parts.sigstore.jsonl"
#: What other builders testified of the same files, in the same way; in an export only, an archive carries none.
REBUILDS_NAME: Final = "rebuilds.sigstore.jsonl"
#: Bundles of either kind. Each may have to be verified, and how many there are is a stranger's choice.
MOST_BUNDLES: Final = 64


def bundles_of(lines: bytes) -> tuple[bytes, ...]:
    """The bundles of such a file, each once. Raises ValueError for more than MOST_BUNDLES."""
    if lines.count(b"\n") >= MOST_BUNDLES:
        raise ValueError(f"it has more than {MOST_BUNDLES} lines")
    return tuple(dict.fromkeys(lines.split(b"\n")))
