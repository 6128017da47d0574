"""Planning: the next configurations and cells of a sweep, computed from what its store knows."""
