"""Takes the root tree of a flake, and finds names in its text, without evaluating it."""
