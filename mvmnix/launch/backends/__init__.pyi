from mvmnix.launch.backends import choice
from mvmnix.launch.backends.qemu import Qemu

__all__ = ["Qemu", "choice"]
