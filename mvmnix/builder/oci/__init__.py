"""Brings OCI images, pinned by digest, to the builder: names, descriptions, registries; layers are opened in the VM."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "reference": "OciRef SCHEME",
        "registry": "Registries",
    },
    modules=["image"],
)
