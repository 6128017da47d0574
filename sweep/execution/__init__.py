"""From a checked spec to trained cells: driver, Ray Tune, packs, progress, status."""
