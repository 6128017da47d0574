"""Retraining on parts of the data."""
