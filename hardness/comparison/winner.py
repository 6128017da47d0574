"""The metric that finds a truth best, judged on samples that did not select it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardness.comparison.truth import auroc
from hardness.shapes import PerSample, of_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The metric that ranks positives best, and its quality on ids that did not select it.

    Args:
        name: Best metric on all ids.
        value: Mean AUROC of the best metric of each half of the ids on the other half.
        chosen: Best metric of each half.
    """

    name: str
    value: float
    chosen: tuple[str, str]


def winner(hardness: Mapping[str, PerSample], truth: PerSample, *, seed: int = 0) -> Winner | None:
    """The metric with the highest AUROC, judged on ids that did not select it.

    The best of many metrics is partly best by luck. So each random half of the ids, with half the
    positives and half the negatives, selects its best metric, and the other half judges it.

    Args:
        hardness: Hardness by metric.
        truth: 1 for positives, 0 for negatives, NaN where unknown.
        seed: Seed of the halves.

    Returns:
        The winner; None if no metric can be judged on both halves.

    Raises:
        ValueError: If the truth is not binary.

    Example:
        >>> truth = np.arange(8) % 2.0
        >>> winner({"good": truth, "bad": -truth}, truth)
        Winner(name='good', value=1.0, chosen=('good', 'good'))
    """
    truth = of_samples("truth", truth)
    generator = np.random.default_rng((seed, 5))
    first = np.zeros(len(truth), dtype=np.bool_)
    for stratum in (0, 1):
        ids = generator.permutation(np.flatnonzero(truth == stratum))
        first[ids[: len(ids) // 2]] = True
    whole, *halves = (
        {
            name: auroc(score, np.where(kept, truth, np.nan)).value
            for name, score in hardness.items()
        }
        for kept in (np.ones_like(first), first, ~first)
    )
    judged = [name for name in whole if not any(math.isnan(half[name]) for half in halves)]
    if not judged:
        return None
    best, one, other = (max(judged, key=values.__getitem__) for values in (whole, *halves))
    value = (halves[1][one] + halves[0][other]) / 2
    return Winner(name=best, value=value, chosen=(one, other))
