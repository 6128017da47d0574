"""Reliability of a mean over seeds, and the seeds needed for a target (Spearman-Brown)."""

import math

import numpy as np
from jaxtyping import Float, Integer

from hardness.comparison.estimate import Estimate
from hardness.comparison.ranks import Number

Numbers = Number | Float[np.ndarray, "..."]
Counts = int | Integer[np.ndarray, "..."]


def spearman_brown(r_1: Numbers, m: Counts) -> Numbers:
    """Expected correlation between two disjoint means over m runs: m r_1 / (1 + (m - 1) r_1).

    Exact for Pearson's correlation, slightly too high for Spearman's. At and below its pole,
    r_1 = -1/(m - 1), the result is -inf, the limit from above. The formula would give large
    positive numbers there, and the ends of an interval would change places.

    Args:
        r_1: Correlation between two single runs.
        m: Number of runs averaged on each side, at least 1.

    Returns:
        The correlation r_m, in the broadcast shape of the arguments.

    Raises:
        ValueError: If ``m`` is below 1.

    Example:
        >>> print(f"{spearman_brown(0.892, 5):.3f}")  # Toneva et al. measured 0.976
        0.976

    References:
        Spearman, Correlation calculated from faulty data, 1910.
        Brown, Some experimental results in the correlation of mental abilities, 1910.
    """
    if np.any(np.asarray(m) < 1):
        raise ValueError(f"m: expected at least 1 run to average; got {m}")
    single = np.asarray(r_1, dtype=np.float64)
    divisor = 1 + (np.asarray(m) - 1) * single
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(divisor <= 0, -np.inf, m * single / divisor)[()]


def seeds_for_r90(r_1: Numbers) -> Numbers:
    """Number of runs to average until two disjoint means correlate at 0.9.

    Args:
        r_1: Correlation between two single runs.

    Returns:
        Result of ``seeds_for`` with a target of 0.9.

    Example:
        >>> seeds_for_r90(np.array([0.5, 0.0]))
        array([ 9., inf])
    """
    return seeds_for(r_1, 0.9)


def seeds_for(r_1: Numbers, target: float) -> Numbers:
    """Number of runs to average for a target correlation: ceil(t (1 - r_1) / ((1 - t) r_1)).

    This is ``spearman_brown`` solved for the number of runs.

    Args:
        r_1: Correlation between two single runs.
        target: Correlation t of two disjoint means to reach, above 0 and below 1.

    Returns:
        A whole number, 0 if ``r_1 >= 1``; inf if ``r_1 <= 0``, since no number of runs is enough;
        NaN for NaN.

    Raises:
        ValueError: If the target is not above 0 and below 1.

    Example:
        >>> float(seeds_for(0.5, 0.8))
        4.0
    """
    if not 0 < target < 1:
        raise ValueError(f"target: expected a correlation above 0 and below 1; got {target}")
    single = np.asarray(r_1, dtype=np.float64)
    odds = target / (1 - target)
    with np.errstate(divide="ignore", invalid="ignore"):
        # r_1 = 0.6 needs exactly 6 runs for 0.9; rounding must not make them 7.
        needed = np.ceil(odds * (1 - single) / single - 1e-9)
        return np.where(single <= 0, np.inf, np.maximum(needed, 0) + 0.0)[()]


def reliability(r_1: Estimate, m: int) -> Estimate:
    """Reliability r_m of a mean over m runs: ``spearman_brown`` of a value and of its interval.

    Args:
        r_1: Correlation between two single runs, from ``spearman_pair_mean``.
        m: Number of runs averaged, at least 1.

    Returns:
        The estimate for m runs, with the reason of ``r_1``.

    Raises:
        ValueError: If ``m`` is below 1.

    Example:
        >>> reliability(Estimate(value=0.5, low=0.4, high=0.6), 9).value
        0.9
    """
    value, low, high = (float(spearman_brown(r, m)) for r in (r_1.value, r_1.low, r_1.high))
    return Estimate(value=value, low=low, high=high, reason=r_1.reason)


def seeds_needed(r_1: Estimate, target: float = 0.9) -> Estimate:
    """``seeds_for`` of a value and of its interval, whose ends change places.

    Args:
        r_1: Correlation between two single runs, from ``spearman_pair_mean``.
        target: Correlation to reach, above 0 and below 1.

    Returns:
        Number of runs to average; inf with the reason if ``r_1`` is not positive.

    Example:
        >>> seeds_needed(Estimate(value=0.5, low=-0.1, high=0.75))
        Estimate(value=9.0, low=3.0, high=inf, reason='')
    """
    value, low, high = (float(seeds_for(r, target)) for r in (r_1.value, r_1.high, r_1.low))
    hopeless = f"runs do not agree (r_1 <= 0): no number of them reaches {target:g}"
    reason = "; ".join(filter(None, (hopeless if math.isinf(value) else "", r_1.reason)))
    return Estimate(value=value, low=low, high=high, reason=reason)
