"""Brings build inputs in by hash, and nothing else: the only room that opens connections for a build."""
