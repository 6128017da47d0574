"""Per-sample hardness: train with recorded dynamics, score them, measure stability and agreement."""
