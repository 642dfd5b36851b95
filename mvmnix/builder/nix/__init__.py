"""Nix's command lines, for the guest and for the host, and the host's own Nix."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "host_nix": "HostNix NIX",
        "host_store": "add_to_nix",
    },
    modules=["nix_commands"],
)
