"""The experiment file and its overrides, to a checked spec; the identity of runs."""
