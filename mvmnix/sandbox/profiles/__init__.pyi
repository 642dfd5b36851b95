from mvmnix.sandbox.profiles.container import CONTAINER
from mvmnix.sandbox.profiles.file_server import FILE_SERVER, FILE_SERVER_COUNTED
from mvmnix.sandbox.profiles.helpers import HELPERS, HELPERS_CONNECTED, HELPERS_WITH_GATEWAY
from mvmnix.sandbox.profiles.hypervisor import (
    HYPERVISOR,
    HYPERVISOR_WITH_NETWORK,
    HYPERVISOR_WITH_SHARES,
    HYPERVISOR_WITH_SHARES_AND_NETWORK,
)
from mvmnix.sandbox.profiles.network import DIALLER, DIALLER_SERVING, GATEWAY, GATEWAY_SERVING
from mvmnix.sandbox.profiles.profile import Condition, Profile

__all__ = [
    "CONTAINER",
    "DIALLER",
    "DIALLER_SERVING",
    "FILE_SERVER",
    "FILE_SERVER_COUNTED",
    "GATEWAY",
    "GATEWAY_SERVING",
    "HELPERS",
    "HELPERS_CONNECTED",
    "HELPERS_WITH_GATEWAY",
    "HYPERVISOR",
    "HYPERVISOR_WITH_NETWORK",
    "HYPERVISOR_WITH_SHARES",
    "HYPERVISOR_WITH_SHARES_AND_NETWORK",
    "Condition",
    "Profile",
]
