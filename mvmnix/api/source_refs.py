"""Parses references to what is built, flakes and OCI images in their place, and to images that are kept."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.errors import UsageError
from mvmnix.model import FlakeRef
from mvmnix.system import checkouts
from mvmnix.system.roots import Roots

#: What an image is made from: a flake's attribute, or an image of a registry by its digest.
type SourceRef = FlakeRef | OciRef

#: How a kept image is named where a flake could be.
KEPT_SCHEME: Final = "image:"
#: [HOST/]NAME[:TAG][@sha256:DIGEST] behind a transport of containers-transports(5) or none, as other tools name images.
_IMAGE_NAME: Final = re.compile(
    r"(?P<transport>docker://|https?://)?(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]{1,5})?/|localhost(?::[0-9]{1,5})?/)?"
    r"(?P<name>[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*)(?P<tag>:[\w.-]{1,128})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image that is kept, by its name, or its manifest's digest or the beginning of that."""

    text: str


def runnable_ref(text: str) -> SourceRef | KeptImage:
    """What a plan can be made for: `image:NAME`, or what `existing_source_ref` takes. Raises as that does."""
    if text.startswith(KEPT_SCHEME):
        return KeptImage(text.removeprefix(KEPT_SCHEME))
    return existing_source_ref(text)


def source_ref(text: str) -> SourceRef:
    """A flake or image reference. Raises UsageError, and RefusedError for an image that is not named by digest.

    And for a flake whose tree holds mvm's own directories [policy-location, state-location].
    """
    if text.startswith(SCHEME):
        return image_reference(text)
    try:
        found = FlakeRef.parse(text)
    except ValueError as error:
        hint = _image_hint(text) or "DIR#ATTR, path:DIR#ATTR or path:DIR?dir=SUB#ATTR"
        raise UsageError(str(error), hint=hint) from error
    checkouts.refuse_inside(Roots.from_environment(os.environ).paths, found.directory)
    return found


def image_reference(text: str) -> OciRef:
    """An image reference. Raises UsageError, and RefusedError for one that is not named by digest."""
    try:
        return OciRef.parse(text)
    except ValueError as error:
        hint = _image_hint(text) or f"{SCHEME}HOST[:PORT]/NAME@sha256:DIGEST"
        raise UsageError(str(error), hint=hint) from error


def _image_hint(text: str) -> str:
    """Return how mvm names the image that a text looks like the name of for other tools; "" for any other text."""
    found = _IMAGE_NAME.fullmatch(text)
    if found is None or not any(found[part] for part in ("transport", "host", "tag", "digest")):
        return ""
    named = f"{SCHEME}{found['host'] or 'HOST/'}{found['name']}{found['digest'] or '@sha256:DIGEST'}"
    return f"an image of a registry is named by its digest: {named}"


def existing_source_ref(text: str) -> SourceRef:
    """A flake reference whose directory is there, or an image reference. Raises as `source_ref` does."""
    found = source_ref(text)
    if isinstance(found, FlakeRef) and not Path(found.directory).is_dir():
        others = f"{KEPT_SCHEME}NAME for one of `mvm images`, or {SCHEME}HOST/NAME@sha256:DIGEST"
        hint = _image_hint(text) or f"name the directory of a flake.nix, {others}"
        raise UsageError(f"{found.directory} is not a directory", hint=hint)
    return found
