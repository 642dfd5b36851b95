"""Verification in numbered steps: provenance, summaries, files of any build."""
