"""A disk of its own for one machine, encrypted under a key that nothing but memory ever holds."""
