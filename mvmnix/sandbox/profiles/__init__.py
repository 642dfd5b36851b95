"""Which system calls each kind of sandboxed program may make: lists of names, with the reason for each group."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "container": "CONTAINER",
        "file_server": "FILE_SERVER FILE_SERVER_COUNTED",
        "helpers": "HELPERS HELPERS_CONNECTED HELPERS_WITH_GATEWAY",
        "hypervisor": ("HYPERVISOR HYPERVISOR_WITH_NETWORK HYPERVISOR_WITH_SHARES HYPERVISOR_WITH_SHARES_AND_NETWORK"),
        "network": "DIALLER DIALLER_SERVING GATEWAY GATEWAY_SERVING",
        "profile": "Condition Profile",
    },
)
