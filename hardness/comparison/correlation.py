"""Correlation of two rankings: pooled, within classes, partial, corrected for noise."""

import math

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped
from scipy.stats import kendalltau

from hardness.comparison.estimate import Estimate, counted
from hardness.comparison.ranks import (
    FEWEST_SAMPLES,
    ROUNDING,
    Number,
    centred_ranks,
    class_codes,
    class_mean_correlations,
    topk_overlaps,
)
from hardness.comparison.resampling import ends_of_halves
from hardness.shapes import PerSample, check_axes, of_samples

Vector = Float[np.ndarray, " samples"]
Labels = Integer[np.ndarray, " samples"]


def spearman(x: PerSample, y: PerSample) -> Estimate:
    """Spearman's rank correlation: Pearson's on ranks, ties by average rank.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.

    Returns:
        Between -1 and 1; NaN with the reason if fewer than two ids have both scores, or if one
        score ties on all of them. The reason also counts the ids left out.

    Example:
        >>> result = spearman(np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 3.0, 2.0, 4.0]))
        >>> round(result.value, 3), result.reason
        (0.5, '1 ids left out for NaN')

    References:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    return spearman_within_class(x, y, np.zeros(np.size(x), dtype=np.int64))


def kendall_tau_b(x: PerSample, y: PerSample) -> Estimate:
    """Kendall's tau-b: concordant minus discordant pairs of samples, corrected for ties.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.

    Returns:
        Between -1 and 1; NaN with the reason as for ``spearman``.

    Example:
        >>> round(kendall_tau_b(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).value, 3)
        0.333

    References:
        Kendall, The treatment of ties in ranking problems, 1945.
    """
    both, _, undefined, dropped = paired(x=x, y=y)
    value = math.nan if undefined else tau_b(*centred_ranks(both))
    return counted(Estimate(value=value, reason=undefined), dropped)


def topk_overlap(
    x: PerSample, y: PerSample, percent: Number, *, draws: int = 0, seed: int = 0
) -> Estimate:
    """Shared part of the hardest ``percent`` % by two metrics.

    Ties at the border belong to the top in part, as in ``stability.topk_jaccard``. The overlap is
    the sum of minima of the two shares, divided by k. Unrelated metrics reach ``percent / 100``.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        percent: Size of the top, from 1 to 100.
        draws: Number of random halves of the ids for an interval; 0 for none. Halves are drawn
            without replacement, since duplicates would overlap by themselves.
        seed: Seed of the draws.

    Returns:
        Between 0 and 1; NaN with the reason as for ``spearman``.

    Raises:
        ValueError: If ``percent`` is not from 1 to 100; a share such as 0.1 is refused.

    Example:
        >>> topk_overlap(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 2.0, 3.0]), 50).value
        0.5
    """
    both, _, undefined, dropped = paired(x=x, y=y)
    if undefined:
        return counted(Estimate(value=math.nan, reason=undefined), dropped)

    def overlap(rows: Float[np.ndarray, "2 some"]) -> float:
        return float(topk_overlaps(rows[:1], rows[1:], percent)[0, 0])

    low, high = ends_of_halves(overlap, both, draws=draws, seed=seed)
    return counted(Estimate(value=overlap(both), low=low, high=high), dropped)


def spearman_within_class(x: PerSample, y: PerSample, labels: PerSample) -> Estimate:
    """Spearman's correlation inside each given class, averaged by class size.

    Read it beside the pooled value: a class that is hard by both metrics correlates them even if
    they agree on no sample. A class in which one metric ties on all samples is left out.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        labels: Given class per sample.

    Returns:
        Between -1 and 1; NaN with the reason as for ``spearman``, or if no class remains.

    Example:
        >>> x, y = np.array([1.0, 2.0, 8.0, 9.0]), np.array([2.0, 1.0, 9.0, 8.0])
        >>> spearman(x, y).value, spearman_within_class(x, y, np.array([0, 0, 1, 1])).value
        (0.6, -1.0)
    """
    both, kept, undefined, dropped = paired(x=x, y=y)
    check_axes("labels", labels, ("samples",), len(kept))
    value = math.nan
    if not undefined:
        codes = class_codes(labels[kept])
        ranks = centred_ranks(both, codes)
        value = float(class_mean_correlations(ranks[:1], ranks[1:], codes)[0, 0])
        undefined = "in no class do both vary" if math.isnan(value) else ""
    return counted(Estimate(value=value, reason=undefined), dropped)


def partial_spearman(x: PerSample, y: PerSample, control: PerSample) -> Estimate:
    """Spearman's correlation of two metrics with a third score held fixed.

    Pearson's correlation of the residuals after a linear fit of the ranks to the control's ranks:
    ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2))``. Useful controls are ``image_entropy``,
    the norm of the embedding and the class mean of a score, which explain much of the agreement.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        control: Score to hold fixed, same samples.

    Returns:
        Between -1 and 1; NaN with the reason if fewer than two ids have all three scores, if one
        score ties on all of them, or if the control has the order of ``x`` or ``y`` or its reverse.
        The reason also counts the ids left out.

    Example:
        >>> x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])
        >>> size = np.array([1.0, 2.0, 4.0, 3.0])  # r_xy 0.6, r_xz 0.8, r_yz 0.8
        >>> spearman(x, y).value, round(partial_spearman(x, y, size).value, 3)
        (0.6, -0.111)

    References:
        Yule, On the theory of correlation for any number of variables, 1907; on ranks as in
        pingouin's ``partial_corr``.
    """
    three, _, undefined, dropped = paired(x=x, y=y, control=control)
    value = math.nan
    if not undefined:
        value = _partial_correlation(*centred_ranks(three))
        undefined = "the control leaves nothing of x or of y" if math.isnan(value) else ""
    return counted(Estimate(value=value, reason=undefined), dropped)


def disattenuated(rho: Number, reliability_x: Number, reliability_y: Number) -> Estimate:
    """Correlation that two metrics would have without seed noise: ``rho / sqrt(r_x r_y)``.

    Valid only for scores from disjoint runs: shared runs share errors, which raise ``rho``. Not
    capped, so that a value above 1 is visible.

    Args:
        rho: Correlation between the two aggregated scores.
        reliability_x: Reliability of the first metric's mean over m runs; 1 without randomness.
        reliability_y: Reliability of the second metric's mean over m runs; 1 without randomness.

    Returns:
        The corrected correlation; NaN with the reason if a reliability is unknown or not positive.

    Example:
        >>> disattenuated(0.3, 0.6, 0.6).value
        0.5

    References:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    for side, value in (("x", reliability_x), ("y", reliability_y)):
        if math.isnan(value) or value <= 0:
            reason = f"reliability of {side} is {value:.3g}: nothing to correct by"
            return Estimate(value=math.nan, reason=reason)
    if math.isnan(rho):
        return Estimate(value=math.nan, reason="no correlation to correct")
    return Estimate(value=rho / math.sqrt(reliability_x * reliability_y))


def tau_b(x: Shaped[np.ndarray, " samples"], y: Shaped[np.ndarray, " samples"]) -> float:
    """SciPy's tau-b without the warnings of its p-value. Pass ranks, which have no infinities."""
    with np.errstate(all="ignore"):
        return float(kendalltau(x, y).statistic)


def paired(
    **scores: PerSample,
) -> tuple[Float[np.ndarray, "scores kept"], Bool[np.ndarray, " samples"], str, int]:
    """Scores of the samples that have every score.

    Args:
        scores: Two or three scores, by the name used in errors and reasons.

    Returns:
        A row for each score; mask of the samples kept; why no statistic exists, empty if some do;
        and the number of samples left out.

    Raises:
        ValueError: If a score has other axes than ``[samples]``, or lengths differ.

    Example:
        >>> paired(x=np.array([1.0, 2.0, np.nan]), y=np.array([3, 3, 3]))[2:]
        ('all samples tie in y', 1)
    """
    names = [*scores]
    rows = [of_samples(name, values) for name, values in scores.items()]
    for name, row in zip(names, rows, strict=True):
        check_axes(name, row, ("samples",), len(rows[0]))
    every = np.stack(rows)
    kept = ~np.isnan(every).any(axis=0)
    every = every[:, kept]
    count = every.shape[1]
    if count < FEWEST_SAMPLES:
        all_of_them = "both scores" if len(names) == len("xy") else f"all {len(names)} scores"
        undefined = f"needs {FEWEST_SAMPLES} samples with {all_of_them}, got {count}"
    else:
        constant = (every == every[:, :1]).all(axis=1)
        undefined = "; ".join(
            f"all samples tie in {name}" for name, ties in zip(names, constant, strict=True) if ties
        )
    return every, kept, undefined, int(np.count_nonzero(~kept))


def _partial_correlation(x: Vector, y: Vector, control: Vector) -> float:
    """Correlation of centred ranks minus their projections on the control; NaN if one rest is 0."""
    left = [row - (row @ control) / (control @ control) * control for row in (x, y)]
    squares = [float(rest @ rest) for rest in left]
    if any(rest <= ROUNDING * (row @ row) for rest, row in zip(squares, (x, y), strict=True)):
        return math.nan
    return float(np.clip(left[0] @ left[1] / math.sqrt(squares[0] * squares[1]), -1, 1))
