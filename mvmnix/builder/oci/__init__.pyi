from mvmnix.builder.oci import image
from mvmnix.builder.oci.attachments import Attachment, AttachmentKind, find_attachments
from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.builder.oci.registry import Registries, RegistryClient

__all__ = [
    "SCHEME",
    "Attachment",
    "AttachmentKind",
    "OciRef",
    "Registries",
    "RegistryClient",
    "find_attachments",
    "image",
]
