"""Mean scores over runs, with infinities replaced."""

import numpy as np
from jaxtyping import Float

from hardness.shapes import PerRun, of_runs


def mean_over_runs(scores: PerRun) -> Float[np.ndarray, " samples"]:
    """Mean raw score per sample, with infinities replaced by the run's finite extremes.

    +inf counts as the largest finite score of its run and -inf as the smallest. A mean with
    infinities would ignore the other runs. In a run without finite scores, infinities count as 1
    and -1. A single run is its own mean, infinities included.

    Args:
        scores: One row per run.

    Returns:
        One score per sample; NaN where any run is NaN.

    Example:
        >>> mean_over_runs(np.array([[1.0, 3.0, np.inf], [5.0, 1.0, 2.0]]))
        array([3. , 2. , 2.5])
    """
    scores = of_runs("scores", scores)
    if len(scores) == 1:
        return scores[0]
    return drawn_in(scores).mean(axis=0)


def drawn_in(scores: Float[np.ndarray, "runs kept"]) -> Float[np.ndarray, "runs kept"]:
    """Scores with infinities replaced by the extremes of their run's finite scores."""
    infinite = np.isinf(scores)
    if not infinite.any():
        return scores
    finite = np.isfinite(scores)
    low = np.min(scores, axis=1, where=finite, initial=np.inf, keepdims=True)
    high = np.max(scores, axis=1, where=finite, initial=-np.inf, keepdims=True)
    none = np.isinf(low)
    drawn_in = np.clip(scores, np.where(none, -1, low), np.where(none, 1, high))
    return np.where(infinite, drawn_in, scores)
