"""Has an image's registry say what is attached to it, bundles, attestations and signatures, to be verified here.

The only part of `mvm verify` that asks anything of a network: of the hosts that config.toml lists alone. Nothing is
kept, and of the answer nothing is trusted: what counts is what a trusted signer signed about the image's digest.
"""

from pathlib import Path
from typing import assert_never

from mvmnix.api.context import open_context
from mvmnix.api.source_refs import image_reference
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader
from mvmnix.builder.fetch.resumable import DownloadLimits
from mvmnix.builder.oci.attachments import Attachment, AttachmentKind, find_attachments
from mvmnix.builder.oci.registry import RegistryClient
from mvmnix.config import FetchRules
from mvmnix.provenance.bundle.blob import Blob
from mvmnix.provenance.verify import cosign_layouts
from mvmnix.provenance.verify.registry_responses import Packed


def image_blob(text: str) -> Blob:
    """What bundles have to be about: the digest of the image's manifest or index. Raises UsageError, RefusedError."""
    return Blob(image_reference(text).digest)


def attachments_of(text: str) -> tuple[Packed, ...]:
    """All that its registry has attached to an image.

    Raises as `image_blob` does, RefusedError [fetch-not-allowed, fetch-limit] and DownloadError where the registry
    can't be asked, or must not be.
    """
    image, rules = image_reference(text), _rules()
    with Downloader(Allowlist.of(rules), DownloadLimits.of(rules)) as downloader:
        return tuple(map(_packed, find_attachments(image, RegistryClient(downloader))))


def _rules() -> FetchRules:
    """What may be asked; no directory is made for that."""
    with open_context() as context:
        return context.config.fetch if Path(context.roots.paths["config"]).is_dir() else FetchRules()


def _packed(it: Attachment) -> Packed:
    if it.problem:
        return Packed(b"", problem=it.problem)
    match it.kind:
        case AttachmentKind.BUNDLE:
            return Packed(it.data)
        case AttachmentKind.ENVELOPE:
            return cosign_layouts.attestation(it.data, it.annotations)
        case AttachmentKind.SIGNATURE:
            return cosign_layouts.signature(it.data, it.annotations)
        case _:
            assert_never(it.kind)
