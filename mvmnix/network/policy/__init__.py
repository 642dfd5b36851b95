"""What a plan's rules allow: decisions, and checks of the rules when a plan is made; pure."""
