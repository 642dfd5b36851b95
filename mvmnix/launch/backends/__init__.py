"""Hypervisors, one file each: what a machine needs in, an argument list out."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "qemu": "Qemu",
    },
    modules=["choice"],
)
