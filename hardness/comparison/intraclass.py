"""Intraclass correlation of one metric over runs, for a single run and for the mean."""

import math

import numpy as np
from jaxtyping import Float

from hardness.comparison.estimate import Estimate, counted
from hardness.comparison.mean_scores import drawn_in
from hardness.comparison.observed_scores import (
    FEWEST_RUNS_FOR_INTERVAL,
    Scores,
    jackknife,
    seen_by_all,
    why_undefined,
)
from hardness.comparison.ranks import centred_ranks
from hardness.comparison.reliability import reliability
from hardness.shapes import PerRun


def icc_c1(scores: PerRun, *, on_ranks: bool = False) -> Estimate:
    """Intraclass correlation ICC(C,1): consistency of a single run, on the scores themselves.

    ``(MS_R - MS_E) / (MS_R + (k - 1) MS_E)`` of a two-way layout with samples as targets and k runs
    as raters. Absolute agreement, ICC(A,1), is not offered, since runs differ by offset and scale.
    Infinities are replaced as in ``mean_over_runs``.

    Args:
        scores: Hardness or raw scores, one row per run.
        on_ranks: Whether to use each run's ranks, for scores with heavy tails; without ties the
            result is ``spearman_pair_mean``.

    Returns:
        At most 1, with a jackknife interval over runs; unlike the textbook's F interval, it does
        not assume independent errors within a run. NaN with the reason where
        ``spearman_pair_mean`` is NaN.

    Example:
        >>> runs = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 8.0]])  # MS_R 6.5, MS_E 1.5
        >>> print(f"{icc_c1(runs).value:.3f} {icc_ck(runs).value:.3f}")
        0.625 0.769

    References:
        McGraw and Wong, Forming inferences about some intraclass correlation coefficients, 1996,
        case 3; values agree with pingouin's ``ICC(C,1)`` and ``ICC(C,k)``.
    """
    scores, dropped = seen_by_all(scores)
    targets = centred_ranks(scores) if on_ranks else drawn_in(scores)
    return counted(icc_c1_of_targets(targets, why_undefined(scores)), dropped)


def icc_ck(scores: PerRun, *, on_ranks: bool = False) -> Estimate:
    """Intraclass correlation ICC(C,k): consistency of the mean over the k runs.

    ``(MS_R - MS_E) / MS_R``, which is ``spearman_brown`` of ``icc_c1`` and its interval at k runs.

    Args:
        scores: Hardness or raw scores, one row per run.
        on_ranks: Whether to use each run's ranks, for scores with heavy tails.

    Returns:
        At most 1, without a lower bound; NaN with the reason where ``icc_c1`` is NaN.

    Example:
        >>> print(f"{icc_ck(np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])).value:.3f}")
        0.667

    References:
        McGraw and Wong, Forming inferences about some intraclass correlation coefficients, 1996.
    """
    return reliability(icc_c1(scores, on_ranks=on_ranks), max(len(scores), 1))


def icc_c1_of_targets(targets: Scores, undefined: str) -> Estimate:
    """``icc_c1`` from the products p_jk of runs' centred scores: SS_R = sum_jk p_jk / k."""
    if undefined:
        return Estimate(value=math.nan, reason=undefined)
    varies = np.ptp(targets, axis=1) > 0
    if not varies.any():
        silent = "all samples tie once infinities are replaced"
        return Estimate(value=math.nan, reason=silent)
    runs = len(targets)
    centred = targets - targets.mean(axis=1, keepdims=True)
    total, rests, squares = sums_and_rests(centred)
    value = _icc_of_sums(total, float(squares.sum()), runs)
    if np.count_nonzero(varies) == 1:  # without this run all others are constant
        reason = "no interval: once infinities are replaced, only one run varies"
        return Estimate(value=value, reason=reason)
    if runs < FEWEST_RUNS_FOR_INTERVAL:
        return jackknife(value, np.empty(runs))
    left = [
        _icc_of_sums(r, squares.sum() - s, runs - 1) for r, s in zip(rests, squares, strict=True)
    ]
    return jackknife(value, np.array(left))


def sums_and_rests(
    rows: Scores,
) -> tuple[float, Float[np.ndarray, " runs"], Float[np.ndarray, " runs"]]:
    """Squares of the sum of all rows, of the sum without each row, and of each row.

    All come from the products of rows, in one pass over the samples.
    """
    products = rows @ rows.T
    total, squares = float(products.sum()), products.diagonal()
    return total, total - 2 * products.sum(axis=1) + squares, squares


def _icc_of_sums(square_of_sums: float, sum_of_squares: float, runs: int) -> float:
    """``(MS_R - MS_E) / (MS_R + (k - 1) MS_E)``, computed with both times (n - 1)(k - 1) k."""
    between = (runs - 1) * square_of_sums
    error = runs * sum_of_squares - square_of_sums
    return (between - error) / (between + (runs - 1) * error)
