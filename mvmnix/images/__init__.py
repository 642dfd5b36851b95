"""Keeps finished builds with their evidence, and finds them again."""
