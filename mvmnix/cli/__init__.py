"""The command line: the composition root that wires adapters, prints and exits."""
