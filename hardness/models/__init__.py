"""Networks, their options, and augmented views."""
