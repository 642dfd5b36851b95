"""`python -m mvmnix.cli`: the command line, for whoever has no `mvm` on the path."""

from mvmnix.cli.main import main

main()
