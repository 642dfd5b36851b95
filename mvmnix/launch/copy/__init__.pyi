from mvmnix.launch.copy import tarball
from mvmnix.launch.copy.pack import Pack
from mvmnix.launch.copy.records import CopyLimits, Reader, is_name
from mvmnix.launch.copy.tarball import TarWriter
from mvmnix.launch.copy.unpack import Unpack

__all__ = ["CopyLimits", "Pack", "Reader", "TarWriter", "Unpack", "is_name", "tarball"]
