"""Known hardness, put into the training samples, and where it is."""
