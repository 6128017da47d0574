"""The scores of one run on a Ray worker, and their cache."""
