from mvmnix.builder.oci import image
from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.builder.oci.registry import Registries

__all__ = ["SCHEME", "OciRef", "Registries", "image"]
