"""Which rights mvm has: it leaves root's before anything else, and makes namespaces and control groups as a user."""
