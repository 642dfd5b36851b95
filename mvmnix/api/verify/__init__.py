"""Verification on request: of files and images of any build, of an exported image, of a plan for it; starts nothing."""
