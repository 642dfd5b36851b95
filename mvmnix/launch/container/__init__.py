"""Containers, which are not microVMs: the same signed plan on the host's own kernel, where plan and policy say so."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "crun": "Crun",
        "run": "run_container",
    },
    modules=["crun"],
)
