"""`python -m mvmnix.cli`: the command line, for users who have no `mvm` on the path."""

from mvmnix.cli.main import main

main()
