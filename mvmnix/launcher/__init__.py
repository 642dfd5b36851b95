"""The launcher: the process that starts machines for callers, and the forks of it that supervise them."""
