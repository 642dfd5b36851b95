"""The life of a machine in the process that supervises it: its start, its boot, its end and its receipt."""
