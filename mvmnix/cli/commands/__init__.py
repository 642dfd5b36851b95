"""The commands, those of a group in one module: parse, call the application, show what it returned."""
