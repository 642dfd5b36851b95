"""Directories of the host in a guest: what may be shared, and the processes that serve it."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "image": "MKFS",
        "opening": "open_directory open_share",
        "risk_checks": "DANGER_MEANINGS refuse_dangers",
        "server": "VIRTIOFSD",
        "setup": "ShareContext Shares",
        "shared": "ShareRecord",
        "write_quota": "WriteQuota",
    },
)
