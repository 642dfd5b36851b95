from mvmnix.builder.flakes.flake_source import FlakeSource, source_of, take_flake
from mvmnix.builder.flakes.worktree import Draft

__all__ = ["Draft", "FlakeSource", "source_of", "take_flake"]
