"""Hypervisors, one file each: what a machine needs in, an argument list out."""
