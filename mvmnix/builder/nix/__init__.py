"""Nix's command lines, for the guest and for the host, and the host's own Nix."""
