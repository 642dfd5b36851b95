"""The process that connects to hosts, for a gateway."""
