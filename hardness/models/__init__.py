"""Networks, their options, and augmented views of images."""
