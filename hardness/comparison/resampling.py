"""Random draws of samples, and intervals from them, for one statistic or for many at once."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import ndtri

LEVELS = (2.5, 97.5)
CONFIDENCE = 0.95
NORMAL_REACH = float(ndtri(0.975))  # half the length of a 95 % interval, in standard errors
MOST_SAMPLES_TO_RESAMPLE = 20_000  # with more samples, standard errors from influence functions
DRAWS_AT_ONCE = 250
Strata = Sequence[Integer[np.ndarray, " _"]]


def resamples(
    samples: int, strata: Strata, draws: int, key: tuple[int, int]
) -> Iterator[Float[np.ndarray, "chunk samples"]]:
    """How often each sample is drawn with replacement, for some draws at a time.

    Args:
        samples: Number of samples.
        strata: Positions of the samples in each stratum; every draw keeps the size of a stratum.
        draws: Number of resamples.
        key: Seed of the draws, and a number that separates them from other draws with that seed.

    Example:
        >>> [weights] = resamples(4, [np.array([0, 1]), np.array([3])], 5, (0, 1))
        >>> weights.sum(axis=1), weights[:, 3]
        (array([3., 3., 3., 3., 3.]), array([1., 1., 1., 1., 1.]))
    """
    generator = np.random.default_rng(key)
    for start in range(0, draws, DRAWS_AT_ONCE):
        chunk = min(DRAWS_AT_ONCE, draws - start)
        weights = np.zeros((chunk, samples))
        for ids in strata:
            drawn = generator.integers(len(ids), size=(chunk, len(ids)))
            cells = (drawn + len(ids) * np.arange(chunk)[:, None]).ravel()
            weights[:, ids] = np.bincount(cells, minlength=chunk * len(ids)).reshape(chunk, -1)
        yield weights


def percentile_ends(
    drawn: Float[np.ndarray, "draws statistics"],
) -> tuple[Float[np.ndarray, " statistics"], Float[np.ndarray, " statistics"]]:
    """Ends of the middle 95 % of the draws in which a statistic exists; NaN if there are none.

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
    """Ends of the middle 95 % of a statistic over random halves of the samples.

    For statistics that duplicates bias, such as overlaps of tops: halves are drawn without
    replacement. A half's statistic varies around that of all samples as much as the latter varies
    around the population's.

    Args:
        statistic: Function from some columns of ``rows`` to a number.
        rows: Scores, samples aligned.
        draws: Number of halves; 0 for no interval.
        seed: Seed of the draws.

    Returns:
        Lower and upper end; NaN without draws, or with fewer than four samples.

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
    """Half the length, in standard errors, of intervals that hold together in 95 % of cases.

    It is the 95th percentile over draws of the largest deviation in standard errors. Statistics
    that vary together need little more than 1.96, where Bonferroni would take more.

    Args:
        deviations: Each statistic's deviation from its value, per draw; NaN where it is undefined.
        errors: Standard error of each statistic; those without a positive one are left out.

    Returns:
        Half the length, at least the 1.96 of a single statistic; NaN without draws.

    Example:
        >>> normal = np.random.default_rng(0).normal(size=(4000, 20))
        >>> print(f"{simultaneous_reach(normal, np.ones(20)):.1f}")
        3.0

    References:
        Romano and Wolf, Exact and approximate stepdown methods for multiple hypothesis testing,
        JASA 2005; this is the first step of their method.
    """
    used = errors > 0
    if not len(deviations) or not used.any():
        return math.nan
    largest = np.nanmax(np.abs(deviations[:, used]) / errors[used], axis=1, initial=0)
    return max(float(np.percentile(largest, 100 * CONFIDENCE)), NORMAL_REACH)
