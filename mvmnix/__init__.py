"""mvm: from a pinned flake to a verified, running microVM."""

__version__ = "0.1.0"
