"""Directories of the host in a guest: what may be shared, and the processes that serve it."""
