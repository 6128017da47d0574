"""Intervals from draws of samples: of one statistic, and of many that have to hold together."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

LEVELS = (2.5, 97.5)
CONFIDENCE = 0.95


def percentile_ends(
    drawn: Float[np.ndarray, "draws statistics"],
) -> tuple[Float[np.ndarray, " statistics"], Float[np.ndarray, " statistics"]]:
    """Ends of the middle 95 % of the draws in which a statistic exists; NaN where in none.

    Example:
        >>> percentile_ends(np.array([[0.0], [1.0], [np.nan]]))
        (array([0.025]), array([0.975]))
    """
    if not len(drawn):
        return np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    missing = np.isnan(drawn).all(axis=0)
    low, high = np.nanpercentile(np.where(missing, 0, drawn), LEVELS, axis=0)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def ends_of_halves(
    statistic: Callable[[Float[np.ndarray, "rows half"]], float],
    rows: Float[np.ndarray, "rows samples"],
    *,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Ends of the middle 95 % of a statistic of random halves of the samples.

    For what duplicates bias, tops and overlaps: a half drawn without replacement has none, and its
    statistic varies around that of all samples as much as that does around the population's.

    Args:
        statistic: Of some columns of ``rows``.
        rows: Scores, samples aligned.
        draws: Halves; none gives no interval.
        seed: Of the draws.

    Returns:
        Low and high end; NaN without draws, or with fewer than four samples.

    Example:
        >>> low, high = ends_of_halves(lambda half: half.mean(), np.eye(8), draws=100, seed=0)
        >>> low <= 0.125 <= high
        True

    References:
        Politis, Romano and Wolf, Subsampling, 1999.
    """
    samples = rows.shape[1]
    half = samples // 2
    if not draws or half <= 1:
        return math.nan, math.nan
    generator = np.random.default_rng((seed, 4))
    chosen = (np.sort(generator.permutation(samples)[:half]) for _ in range(draws))
    drawn = np.array([[statistic(rows[:, places])] for places in chosen])
    low, high = percentile_ends(drawn)
    return float(low[0]), float(high[0])


def simultaneous_reach(
    deviations: Float[np.ndarray, "draws statistics"], errors: Float[np.ndarray, " statistics"]
) -> float:
    """How many standard errors intervals reach so that all hold together in 95 % of cases.

    The 95th percentile over draws of the largest deviation in standard errors. Statistics that
    rise and fall together need little more than 1.96; Bonferroni's reach would not know.

    Args:
        deviations: Of each statistic in each draw from its value; NaN where it does not exist.
        errors: Standard error of each; those without a positive one stay out.

    Returns:
        The reach, at least that of a single statistic, 1.96; NaN without draws.

    Example:
        >>> normal = np.random.default_rng(0).normal(size=(4000, 20))
        >>> print(f"{simultaneous_reach(normal, np.ones(20)):.1f}")
        3.0

    References:
        Romano and Wolf, Exact and approximate stepdown methods for multiple hypothesis testing,
        JASA 2005, whose first step this is.
    """
    used = errors > 0
    if not len(deviations) or not used.any():
        return math.nan
    largest = np.nanmax(np.abs(deviations[:, used]) / errors[used], axis=1, initial=0)
    return max(float(np.percentile(largest, 100 * CONFIDENCE)), float(ndtri(LEVELS[1] / 100)))
