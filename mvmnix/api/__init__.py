"""The application under every face: state, builds, plans, machines and verdicts; prints nothing, parses no argv."""
