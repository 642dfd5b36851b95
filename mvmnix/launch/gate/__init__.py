"""The gate: a plan verified with all it stands on, and its start counted against replay."""
