"""A module for each command: parses, calls the application once, shows what it returned."""
