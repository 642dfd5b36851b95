from mvmnix.builder.lockfile.document import InputPath, LockChange
from mvmnix.builder.lockfile.session import Locking, LockRequest, NewLock

__all__ = ["InputPath", "LockChange", "LockRequest", "Locking", "NewLock"]
