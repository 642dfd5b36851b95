"""The jail around a hypervisor: a uid, namespaces and a root of its own, a filter of system calls, limits."""
