from mvmnix.builder.flakes.flake_source import FlakeSource, source_of, take_flake
from mvmnix.builder.flakes.flake_text import package_names
from mvmnix.builder.flakes.worktree import Draft

__all__ = ["Draft", "FlakeSource", "package_names", "source_of", "take_flake"]
