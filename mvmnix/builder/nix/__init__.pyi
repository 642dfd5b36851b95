from mvmnix.builder.nix import nix_commands
from mvmnix.builder.nix.host_nix import NIX, HostNix
from mvmnix.builder.nix.host_store import add_to_nix

__all__ = ["NIX", "HostNix", "add_to_nix", "nix_commands"]
