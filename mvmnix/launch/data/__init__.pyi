from mvmnix.launch.data.setup import PreparedDisk

__all__ = ["PreparedDisk"]
