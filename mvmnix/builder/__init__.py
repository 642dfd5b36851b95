"""From a locked flake to a built image: pins, downloads, and the builder machine."""
