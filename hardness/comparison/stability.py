"""Agreement of one metric with itself over runs: would another seed confirm this ranking?

Every function takes ``scores[runs, samples]``: hardness with its sign applied, one row per run of
one configuration, the same sample in the same column. Ids that are NaN in any run are dropped and
counted. Except for means over runs, only order matters: +inf ranks hardest, -inf easiest, and equal
infinities tie. Ties share their average rank.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Integer

from hardness.comparison.estimate import Estimate, counted
from hardness.comparison.intraclass import icc_c1_of_targets, sums_and_rests
from hardness.comparison.mean_scores import drawn_in, mean_over_runs
from hardness.comparison.observed_scores import (
    FEWEST_RUNS,
    Scores,
    jackknife,
    seen_by_all,
    seen_by_all_with_classes,
    why_undefined,
)
from hardness.comparison.ranks import (
    Number,
    ascending_order,
    centred_ranks,
    class_mean_correlations,
    topk_borders,
    topk_overlaps,
)
from hardness.comparison.reliability import reliability, seeds_needed
from hardness.shapes import PerRun, PerSample, of_runs

MOST_PAIRS_OF_SUBSETS = 200
MOST_SAMPLES_FOR_HALVES = 20_000  # each pair of subsets costs two sorts
Subsets = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How well the runs of one configuration agree on one metric.

    Args:
        samples: Number of samples that every statistic uses.
        dropped: Number of samples left out because some run has no score for them.
        runs: Number of runs compared.
        spearman_pair_mean: Mean Spearman correlation between two runs.
        spearman_within_class_pair_mean: Mean Spearman correlation inside each given class.
        kendall_w: Concordance of all runs at once.
        topk_jaccard_5: Jaccard index of the hardest 5 % of two runs.
        topk_jaccard_10: Jaccard index of the hardest 10 % of two runs.
        topk_jaccard_20: Jaccard index of the hardest 20 % of two runs.
        topk_overlap_5: Share of the hardest 5 % that a second run confirms.
        topk_overlap_10: Share of the hardest 10 % that a second run confirms.
        topk_overlap_20: Share of the hardest 20 % that a second run confirms.
        reliability: Expected correlation of two means over as many runs as ``runs``.
        seeds_for_r90: Number of runs to average until that correlation reaches 0.9.
        disjoint_halves: Measured correlation of two means over disjoint halves of the runs, to
            compare with ``spearman_brown`` of half the runs.
        icc_c1: Intraclass correlation of the scores of a single run.
        icc_ck: Intraclass correlation of the mean over the runs.
    """

    samples: int
    dropped: int
    runs: int
    spearman_pair_mean: Estimate
    spearman_within_class_pair_mean: Estimate
    kendall_w: Estimate
    topk_jaccard_5: Estimate
    topk_jaccard_10: Estimate
    topk_jaccard_20: Estimate
    topk_overlap_5: Estimate
    topk_overlap_10: Estimate
    topk_overlap_20: Estimate
    reliability: Estimate
    seeds_for_r90: Estimate
    disjoint_halves: Estimate
    icc_c1: Estimate
    icc_ck: Estimate

    @property
    def reliability_of_one(self) -> tuple[Estimate, Estimate]:
        """The results of ``spearman_pair_mean`` and ``spearman_within_class_pair_mean``."""
        pooled, within = self.spearman_pair_mean, self.spearman_within_class_pair_mean
        return counted(pooled, self.dropped), counted(within, self.dropped)


def stability(scores: PerRun, labels: PerSample) -> Stability:
    """Compute all statistics of this file for one metric, sorting each run once.

    Args:
        scores: Hardness, one row per run.
        labels: Given class per sample.

    Returns:
        Every statistic with its interval over runs, and how many samples were left out.

    Raises:
        ValueError: If there is not one label per sample.

    Example:
        >>> runs = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]])
        >>> result = stability(runs, np.array([0, 0, 1, 1]))
        >>> result.spearman_pair_mean.value, result.spearman_within_class_pair_mean.value
        (0.8, 1.0)
    """
    return stability_and_mean_rank(scores, labels)[0]


def stability_and_mean_rank(
    scores: PerRun, labels: PerSample
) -> tuple[Stability, Float[np.ndarray, " samples"]]:
    """Compute ``stability`` and ``mean_normalised_rank``, sorting each run once.

    Args:
        scores: Hardness, one row per run.
        labels: Given class per sample.

    Raises:
        ValueError: If there is not one label per sample.

    Example:
        >>> runs = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> stability_and_mean_rank(runs, np.array([0, 0]))[1]
        array([0.25, 0.75])
    """
    given = of_runs("scores", scores)
    scores, codes, dropped = seen_by_all_with_classes(scores, labels)
    runs, samples = scores.shape
    orders = ascending_order(scores)
    ranks = centred_ranks(scores, orders=orders)
    within = centred_ranks(scores, codes, orders=orders)
    overlaps = {percent: _topk_overlaps(ranks, orders, percent) for percent in (5, 10, 20)}
    undefined = why_undefined(ranks)
    r_1 = _pair_mean(_pooled_correlations(ranks), undefined)
    single = icc_c1_of_targets(drawn_in(scores), undefined)
    found = Stability(
        samples=samples,
        dropped=dropped,
        runs=runs,
        spearman_pair_mean=r_1,
        spearman_within_class_pair_mean=_within_class_pair_mean(within, codes, undefined),
        kendall_w=_kendall_w(ranks, undefined),
        topk_jaccard_5=_pair_mean(_jaccards(overlaps[5]), undefined),
        topk_jaccard_10=_pair_mean(_jaccards(overlaps[10]), undefined),
        topk_jaccard_20=_pair_mean(_jaccards(overlaps[20]), undefined),
        topk_overlap_5=_pair_mean(overlaps[5], undefined),
        topk_overlap_10=_pair_mean(overlaps[10], undefined),
        topk_overlap_20=_pair_mean(overlaps[20], undefined),
        reliability=reliability(r_1, max(runs, 1)),
        seeds_for_r90=seeds_needed(r_1),
        disjoint_halves=_halves_if_few(scores, undefined),
        icc_c1=single,
        icc_ck=reliability(single, max(runs, 1)),
    )
    # If ids were dropped, each run is ranked again with all samples that it scored.
    return found, mean_normalised_rank(given) if dropped else _mean_normalised(ranks)


def mean_normalised_rank(scores: PerRun) -> Float[np.ndarray, " samples"]:
    """Mean over runs of each run's own ``(rank - 0.5) / N``, near 1 for the hardest.

    Args:
        scores: Hardness, one row per run.

    Returns:
        Between 0 and 1, comparable between metrics; NaN where any run is NaN. N is the number of
        samples that a run scored.

    Example:
        >>> mean_normalised_rank(np.array([[1.0, 2.0, np.nan], [4.0, 2.0, 3.0]])).round(3)
        array([0.542, 0.458,   nan])
    """
    scores = of_runs("scores", scores)
    ranks = np.full(scores.shape, np.nan)
    for row, run in zip(ranks, scores, strict=True):
        kept = ~np.isnan(run)
        row[kept] = _normalised(centred_ranks(run[kept]))
    return ranks.mean(axis=0)


def spearman_pair_mean(scores: PerRun, *, confidence: float = 0.95) -> Estimate:
    """Mean Spearman correlation over all pairs of runs: the reliability r_1 of a single run.

    The interval is the delete-one-run jackknife with Student's t on S - 1 degrees of freedom for S
    runs. A percentile bootstrap over so few runs would be far too narrow.

    Args:
        scores: Hardness, one row per run.
        confidence: Confidence level of the two-sided interval.

    Returns:
        The mean over S(S - 1)/2 pairs; no interval below 4 runs. NaN with the reason if there are
        fewer than 2 runs or samples, or if a run ties on all samples.

    Example:
        >>> spearman_pair_mean(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]]))
        Estimate(value=0.8, low=nan, high=nan, reason='no interval: needs 4 runs, got 2')

    References:
        Spearman, The proof and measurement of association between two things, 1904.
        Tukey, Bias and confidence in not quite large samples, 1958.
    """
    scores, dropped = seen_by_all(scores)
    pairs = _pooled_correlations(centred_ranks(scores))
    return counted(_pair_mean(pairs, why_undefined(scores), confidence), dropped)


def spearman_within_class_pair_mean(scores: PerRun, labels: PerSample) -> Estimate:
    """Mean over pairs of runs of the Spearman correlation inside each class, weighted by size.

    A metric that depends only on the class of a sample is stable when pooled, but not here. A class
    in which one run of a pair ties on all samples is left out of that pair's mean.

    Args:
        scores: Hardness, one row per run.
        labels: Given class per sample.

    Returns:
        The mean over pairs with a jackknife interval over runs; NaN with the reason where
        ``spearman_pair_mean`` is NaN, or if two runs share no class in which both vary.

    Raises:
        ValueError: If there is not one label per sample.

    Example:
        >>> runs = np.array([[1.0, 2.0, 8.0, 9.0], [1.0, 2.0, 9.0, 8.0]])
        >>> spearman_within_class_pair_mean(runs, np.array([0, 0, 1, 1])).value
        0.0
    """
    scores, codes, dropped = seen_by_all_with_classes(scores, labels)
    ranks = centred_ranks(scores, codes)
    return counted(_within_class_pair_mean(ranks, codes, why_undefined(scores)), dropped)


def reliability_of_one(scores: PerRun, labels: PerSample) -> tuple[Estimate, Estimate]:
    """``spearman_pair_mean`` and the same within class, sorting each run once.

    Args:
        scores: Hardness, one row per run.
        labels: Given class per sample.

    Raises:
        ValueError: If there is not one label per sample.

    Example:
        >>> runs = np.array([[1.0, 2.0, 8.0, 9.0], [1.0, 2.0, 9.0, 8.0]])
        >>> pooled, within = reliability_of_one(runs, np.array([0, 0, 1, 1]))
        >>> pooled.value, within.value
        (0.8, 0.0)
    """
    scores, codes, dropped = seen_by_all_with_classes(scores, labels)
    undefined, orders = why_undefined(scores), ascending_order(scores)
    pooled = _pooled_correlations(centred_ranks(scores, orders=orders))
    within = centred_ranks(scores, codes, orders=orders)
    found = _pair_mean(pooled, undefined), _within_class_pair_mean(within, codes, undefined)
    return counted(found[0], dropped), counted(found[1], dropped)


def kendall_w(scores: PerRun) -> Estimate:
    """Kendall's coefficient of concordance of all runs, corrected for ties.

    ``12 sum_i (R_i - mean R)^2 / (m^2 (n^3 - n) - m sum_j T_j)``. R_i is the sum of sample i's rank
    over the m runs; T_j is the sum of t^3 - t over the groups of t ties in run j. It equals
    Friedman's chi^2 / (m(n - 1)) and, without ties, (1 + (m - 1) r)/m for the mean Spearman r.

    Args:
        scores: Hardness, one row per run.

    Returns:
        Between 0 and 1, with a jackknife interval over runs; NaN with the reason where
        ``spearman_pair_mean`` is NaN.

    Example:
        >>> kendall_w(np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]])).value
        0.9

    References:
        Kendall and Babington Smith, The problem of m rankings, 1939.
    """
    scores, dropped = seen_by_all(scores)
    return counted(_kendall_w(centred_ranks(scores), why_undefined(scores)), dropped)


def topk_jaccard(scores: PerRun, percent: Number) -> Estimate:
    """Mean over pairs of runs of the weighted Jaccard index of their hardest ``percent`` %.

    Tied samples at the border get equal fractional shares, ``(k - above) / tied``, so that their
    order plays no role. ``k = percent * N / 100`` need not be whole. The index is the sum of minima
    divided by the sum of maxima of the two shares.

    Args:
        scores: Hardness, one row per run.
        percent: Size of the top, from 1 to 100.

    Returns:
        Between 0 and 1, with a jackknife interval over runs; unrelated rankings reach
        ``f / (2 - f)`` with f = percent / 100. NaN with the reason where ``spearman_pair_mean`` is
        NaN.

    Raises:
        ValueError: If ``percent`` is not from 1 to 100; a share such as 0.1 is refused.

    Example:
        >>> runs = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 2.0, 3.0]])
        >>> topk_jaccard(runs, 50).value  # {2, 3} and {1, 3}: one shared of three
        0.3333333333333333
    """
    scores, dropped = seen_by_all(scores)
    pairs = _jaccards(topk_overlaps(scores, scores, percent))
    return counted(_pair_mean(pairs, why_undefined(scores)), dropped)


def topk_overlap_pair_mean(scores: PerRun, percent: Number) -> Estimate:
    """Mean over pairs of runs of the shared part of their hardest ``percent`` %.

    Sum of minima of the shares of ``topk_jaccard``, divided by k; ``percent / 100`` is chance.

    Args:
        scores: Hardness, one row per run.
        percent: Size of the top, from 1 to 100.

    Returns:
        Between 0 and 1, with a jackknife interval over runs; NaN with the reason where
        ``spearman_pair_mean`` is NaN.

    Raises:
        ValueError: If ``percent`` is not from 1 to 100; a share such as 0.1 is refused.

    Example:
        >>> runs = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 2.0, 3.0]])
        >>> topk_overlap_pair_mean(runs, 50).value
        0.5
    """
    scores, dropped = seen_by_all(scores)
    pairs = topk_overlaps(scores, scores, percent)
    return counted(_pair_mean(pairs, why_undefined(scores)), dropped)


def disjoint_halves_m(
    scores: PerRun, m: int, *, most: int = MOST_PAIRS_OF_SUBSETS, seed: int = 0
) -> Estimate:
    """Mean Spearman correlation between means over disjoint sets of m runs: the measured r_m.

    ``spearman_brown`` predicts it from single runs, slightly too high for Spearman's correlation.
    For m = 1 it is ``spearman_pair_mean``.

    Args:
        scores: Hardness, one row per run; infinities are replaced as in ``mean_over_runs``.
        m: Number of runs averaged on each side, at most half of all.
        most: Largest number of pairs of sets; if there are more, a random choice.
        seed: Seed of that choice.

    Returns:
        The mean over pairs, without an interval, since the pairs share runs; NaN with the reason
        where ``spearman_pair_mean`` is NaN, or if a mean ties on all samples.

    Raises:
        ValueError: If ``m`` is below 1, or above half of the runs where there are at least two.

    Example:
        >>> runs = np.array([[1.0, 2, 5, 9], [1, 4, 3, 9], [2, 1, 3, 5], [1, 5, 2, 7]])
        >>> halves = disjoint_halves_m(runs, 2)  # 01|23, 02|13, 03|12: 0.80, 0.63, 0.95
        >>> print(f"{halves.value:.3f} ({halves.reason})")
        0.794 (no interval: 3 pairs of 2 runs each)

    References:
        Toneva et al., An empirical study of example forgetting, ICLR 2019, section 6: 0.892 between
        two runs and 0.976 between sums of five, by Pearson's correlation.
    """
    scores, dropped = seen_by_all(scores)
    runs, undefined = len(scores), why_undefined(scores)
    if m < 1 or (runs >= FEWEST_RUNS and m > runs // 2):
        raise ValueError(f"m: expected from 1 to half of the {runs} runs; got {m}")
    return counted(_halves(scores, m, undefined, most=most, seed=seed), dropped)


def _normalised(
    centred: Float[np.ndarray, "*lists samples"],
) -> Float[np.ndarray, "*lists samples"]:
    """``(rank - 0.5) / N`` of centred ranks."""
    samples = centred.shape[-1]
    return ((centred + (samples + 1) / 2) - 0.5) / max(samples, 1)


def _mean_normalised(ranks: Scores) -> Float[np.ndarray, " samples"]:
    """Mean of ``_normalised`` over rows, one row at a time to save memory."""
    return np.asarray(sum(map(_normalised, ranks)) / len(ranks))


def _topk_overlaps(
    ranks: Scores, orders: Integer[np.ndarray, "runs samples"], percent: Number
) -> Float[np.ndarray, "runs runs"]:
    if not ranks.shape[1]:
        return topk_overlaps(ranks, ranks, percent)
    borders = topk_borders(ranks, percent, orders=orders)
    return topk_overlaps(ranks, ranks, percent, borders=(borders, borders))


def _pooled_correlations(ranks: Scores) -> Float[np.ndarray, "runs runs"]:
    return class_mean_correlations(ranks, ranks, np.zeros(ranks.shape[1], dtype=np.uint8))


def _pair_mean(
    pairs: Float[np.ndarray, "runs runs"], undefined: str, confidence: float = 0.95
) -> Estimate:
    if undefined:
        return Estimate(value=math.nan, reason=undefined)
    runs = len(pairs)
    others = pairs * (1 - np.eye(runs))
    total = others.sum()
    left_out = (total - 2 * others.sum(axis=1)) / max((runs - 1) * (runs - 2), 1)
    return jackknife(float(total / (runs * (runs - 1))), left_out, confidence)


def _halves_if_few(scores: Scores, undefined: str) -> Estimate:
    """``disjoint_halves_m`` of half the runs, unless many samples would make it too slow."""
    samples = scores.shape[1]
    if samples > MOST_SAMPLES_FOR_HALVES:
        reason = f"disjoint halves: left out above {MOST_SAMPLES_FOR_HALVES} samples"
        return Estimate(value=math.nan, reason=undefined or reason)
    half = max(len(scores) // 2, 1)
    return _halves(scores, half, undefined, most=MOST_PAIRS_OF_SUBSETS, seed=0)


def _halves(scores: Scores, m: int, undefined: str, *, most: int, seed: int) -> Estimate:
    if undefined:
        return Estimate(value=math.nan, reason=undefined)
    pairs = _disjoint_subsets(len(scores), m, most, seed)
    total = 0.0
    for pair in pairs:
        means = np.stack([mean_over_runs(scores[[*side]]) for side in pair])
        if (means == means[:, :1]).all(axis=1).any():
            reason = f"a mean of {m} runs ties on all samples"
            return Estimate(value=math.nan, reason=reason)
        total += float(_pooled_correlations(centred_ranks(means))[0, 1])
    reason = f"no interval: {len(pairs)} pairs of {m} runs each"
    return Estimate(value=total / len(pairs), reason=reason)


def _disjoint_subsets(runs: int, m: int, most: int, seed: int) -> list[Subsets]:
    """Pairs of disjoint sets of m runs, each pair once; the set with the lowest run comes first."""
    if math.comb(runs, m) * math.comb(runs - m, m) // 2 <= most:
        return [*_every_pair(runs, m)]
    generator = np.random.default_rng((seed, 2))
    chosen: dict[Subsets, None] = {}
    while len(chosen) < most:
        order = generator.permutation(runs).tolist()
        first, second = sorted((tuple(sorted(order[:m])), tuple(sorted(order[m : 2 * m]))))
        chosen[first, second] = None
    return [*chosen]


def _every_pair(runs: int, m: int) -> Iterator[Subsets]:
    for first in combinations(range(runs), m):
        others = [run for run in range(first[0], runs) if run not in first]
        for second in combinations(others, m):
            yield first, second


def _within_class_pair_mean(
    ranks: Scores, codes: Integer[np.ndarray, " samples"], undefined: str
) -> Estimate:
    pairs = class_mean_correlations(ranks, ranks, codes)
    silent = "two runs share no class in which both vary" if np.isnan(pairs).any() else ""
    return _pair_mean(pairs, undefined or silent)


def _kendall_w(ranks: Scores, undefined: str) -> Estimate:
    """From centred ranks c: R_i - mean R = sum_j c_ji, and 12 sum_i c_ji^2 = n^3 - n - T_j."""
    if undefined:
        return Estimate(value=math.nan, reason=undefined)
    runs = len(ranks)
    total, rests, spreads = sums_and_rests(ranks)
    value = total / (runs * float(spreads.sum()))
    return jackknife(value, rests / ((runs - 1) * (spreads.sum() - spreads)))


def _jaccards(overlaps: Float[np.ndarray, "runs runs"]) -> Float[np.ndarray, "runs runs"]:
    """Jaccard s / (2 - s) of a shared fraction s: minima and maxima of two tops add up to 2k."""
    return overlaps / (2 - overlaps)
