"""Formats: bytes in, typed nouns out, and the other way round; pure."""
