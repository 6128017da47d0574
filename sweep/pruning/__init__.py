"""Training again on parts of the data."""
