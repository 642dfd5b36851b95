"""The jail around a hypervisor: a uid, namespaces and a root of its own, a filter of system calls, limits."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "jail": "BubblewrapJail",
    },
    modules=["delegated_scope"],
)
