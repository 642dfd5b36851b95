"""Takes the root tree of a flake without evaluating it."""
