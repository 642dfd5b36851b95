"""How a running machine is spoken to from another process: one socket in its directory, served by its supervisor."""
