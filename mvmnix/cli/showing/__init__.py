"""Evidence as a graph, from source to machine, and the ways to show it: as a tree in the terminal and as a page."""
