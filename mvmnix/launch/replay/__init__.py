"""What makes a plan start only as often, and only as long, as it says."""
