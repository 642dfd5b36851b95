"""What `mvm policy` works with: the account of a policy, what it says of things, cases with expected verdicts."""
