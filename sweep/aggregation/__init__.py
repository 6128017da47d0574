"""From the scores of all runs to tables."""
