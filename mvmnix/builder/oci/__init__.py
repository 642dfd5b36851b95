"""Brings OCI images by digest to the builder, and finds what is attached to them; layers are opened in the VM."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "attachments": "Attachment AttachmentKind find_attachments",
        "reference": "OciRef SCHEME",
        "registry": "Registries RegistryClient",
    },
    modules=["image"],
)
