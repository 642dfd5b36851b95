"""Reports on a trust policy: an account of it, and what it makes of an item."""
