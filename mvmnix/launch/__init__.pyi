from mvmnix.launch.loop import Loop

__all__ = ["Loop"]
