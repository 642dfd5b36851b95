"""One session with the builder VM: its argument lists, its questions, and what comes out of it."""
