"""Scores of all runs, to tables."""
