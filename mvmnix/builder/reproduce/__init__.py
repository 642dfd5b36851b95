"""Compares what two builds of the same thing made."""
