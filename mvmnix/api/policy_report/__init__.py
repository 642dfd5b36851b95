"""Reports on a trust policy: an account of it, what it makes of an item, and cases with expected verdicts."""
