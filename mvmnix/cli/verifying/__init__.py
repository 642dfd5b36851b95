"""What `mvm verify` does with what was typed: whom to trust, which bundles, what to print."""
