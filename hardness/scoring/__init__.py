"""The dynamics of one run, or the images alone, as scores."""
