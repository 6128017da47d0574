"""What a run leaves behind: its records, their folder, checkpoints, recorder, importers."""
