from mvmnix.builder.lockfile.document import InputPath, LockChange
from mvmnix.builder.lockfile.session import LockRequest, LockSession, NewLock

__all__ = ["InputPath", "LockChange", "LockRequest", "LockSession", "NewLock"]
