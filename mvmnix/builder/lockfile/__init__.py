"""Makes flake.lock: asks the builder VM what a flake wants, resolves it, and writes what Nix would write."""
