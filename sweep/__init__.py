"""Seeded sweeps under Ray Tune, tracked in MLflow, aggregated with Ray Data."""
