"""Measures, and judges nothing: ratios within one run, with medians and spread."""
