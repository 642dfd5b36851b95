"""Containers, which are not microVMs: the same signed plan on the host's own kernel, where plan and policy say so."""
