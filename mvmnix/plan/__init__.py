"""What may run, with which means and until when, as the planner signs it: types, written and read strictly; no I/O."""
