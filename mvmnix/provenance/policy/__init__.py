"""Trust policies: their text, their rules, and the machine's floor beneath a user's."""
