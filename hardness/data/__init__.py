"""Samples with stable ids: images and labels, splits, parts."""
