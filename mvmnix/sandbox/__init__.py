"""The sandbox for every child that parses what a stranger controls; below `builder` and `launch`."""
