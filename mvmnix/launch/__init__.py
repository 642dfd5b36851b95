"""From a verified plan to a running microVM and its receipt."""
