"""Explains refusals: for each reason code what it means, why that is refused, and what to do; starts nothing."""
