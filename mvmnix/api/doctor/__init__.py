"""What `mvm doctor` finds of this host: checks, each of which makes findings."""
