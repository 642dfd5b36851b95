"""What `mvm verify` does with what was typed: whom to believe, which bundles, what to print."""
