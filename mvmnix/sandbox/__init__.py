"""The one sandbox for every child process that parses what a stranger controls."""
