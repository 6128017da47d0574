"""Scoring one run on a Ray worker, and the cache of scores."""
