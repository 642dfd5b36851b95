from mvmnix.sandbox.profiles.container import CONTAINER
from mvmnix.sandbox.profiles.file_server import FILE_SERVER, FILE_SERVER_COUNTED
from mvmnix.sandbox.profiles.helpers import HELPERS, HELPERS_CONNECTED, HELPERS_WITH_GATEWAY
from mvmnix.sandbox.profiles.hypervisor import (
    HYPERVISOR,
    HYPERVISOR_WITH_NETWORK,
    HYPERVISOR_WITH_SHARES,
    HYPERVISOR_WITH_SHARES_AND_NETWORK,
)
from mvmnix.sandbox.profiles.network import DIALLER, GATEWAY
from mvmnix.sandbox.profiles.profile import Argument, Profile

__all__ = [
    "CONTAINER",
    "DIALLER",
    "FILE_SERVER",
    "FILE_SERVER_COUNTED",
    "GATEWAY",
    "HELPERS",
    "HELPERS_CONNECTED",
    "HELPERS_WITH_GATEWAY",
    "HYPERVISOR",
    "HYPERVISOR_WITH_NETWORK",
    "HYPERVISOR_WITH_SHARES",
    "HYPERVISOR_WITH_SHARES_AND_NETWORK",
    "Argument",
    "Profile",
]
