"""Known hardness that is put into training samples, with a record of where it is."""
