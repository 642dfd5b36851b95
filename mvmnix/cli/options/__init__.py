"""Options that several commands share, each with the noun that it hands over."""
