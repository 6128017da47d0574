"""Turns an experiment file and its overrides into a checked spec; gives runs their identity."""
