"""Makes flake.lock: asks the builder VM what a flake wants, resolves it, and writes what Nix would write."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "document": "InputPath LockChange",
        "session": "LockRequest LockSession NewLock",
    },
)
