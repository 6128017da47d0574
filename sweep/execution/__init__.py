"""Training the cells of a sweep: driver, Ray Tune, packs, progress, status."""
