"""What copying files out of and into machines is made of: records, and who reads and writes files and tar streams."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "pack": "Pack",
        "records": "CopyLimits is_name Reader",
        "tarball": "TarWriter",
        "unpack": "Unpack",
    },
    modules=["tarball"],
)
