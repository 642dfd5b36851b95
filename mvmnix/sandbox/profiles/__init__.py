"""Which system calls each kind of sandboxed program may make: lists of names, with the reason for each group."""
