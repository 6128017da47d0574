"""Per-sample hardness: record dynamics, score them, measure stability and agreement."""
