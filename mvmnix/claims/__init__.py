"""Claim lint: finds what documents promise and no test shows; reads texts, and starts nothing."""
