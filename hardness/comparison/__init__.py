"""Scores against other seeds, other metrics and the truth."""
