"""The jail around a hypervisor: a uid, namespaces and a root of its own, a filter of system calls, limits."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "jail": "BubblewrapJail",
        "network_sandbox": "is_readable_by_all",
    },
    modules=["delegated_scope"],
)
