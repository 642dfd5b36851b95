"""Templates: guests that stand still before they were told anything, kept sealed, from which machines start warm."""
