"""The connections into the host's side: namespace, packet rules, published ports, and what the supervisor is told."""
