from mvmnix.launch.shares.image import MKFS
from mvmnix.launch.shares.opening import open_directory, open_share, refuse_owner
from mvmnix.launch.shares.risk_checks import DANGER_MEANINGS, refuse_dangers
from mvmnix.launch.shares.server import VIRTIOFSD
from mvmnix.launch.shares.setup import Circumstances, Shares
from mvmnix.launch.shares.shared import Shared
from mvmnix.launch.shares.write_quota import WrittenWatch

__all__ = [
    "DANGER_MEANINGS",
    "MKFS",
    "VIRTIOFSD",
    "Circumstances",
    "Shared",
    "Shares",
    "WrittenWatch",
    "open_directory",
    "open_share",
    "refuse_dangers",
    "refuse_owner",
]
