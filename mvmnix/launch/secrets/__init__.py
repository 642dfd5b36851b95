"""What a guest is told in confidence, and what must not stand in a plan instead."""
