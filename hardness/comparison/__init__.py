"""Comparison of scores with other seeds, other metrics and the truth."""
