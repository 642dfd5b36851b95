"""A guest's network: what a plan's rules allow of it, and what holds a guest to them."""
