from mvmnix.launch.shares.image import MKFS
from mvmnix.launch.shares.opening import open_directory, open_share
from mvmnix.launch.shares.risk_checks import DANGER_MEANINGS, refuse_dangers
from mvmnix.launch.shares.server import VIRTIOFSD
from mvmnix.launch.shares.setup import ShareContext, Shares
from mvmnix.launch.shares.shared import ShareRecord
from mvmnix.launch.shares.write_quota import WriteQuota

__all__ = [
    "DANGER_MEANINGS",
    "MKFS",
    "VIRTIOFSD",
    "ShareContext",
    "ShareRecord",
    "Shares",
    "WriteQuota",
    "open_directory",
    "open_share",
    "refuse_dangers",
]
