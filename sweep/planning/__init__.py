"""Which cells come next, and what they must record."""
