"""Brings build inputs in by hash, and nothing else: the only room whose children open connections."""
