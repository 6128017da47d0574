"""Agreement of two metrics: do they call the same samples hard, beyond the noise of their seeds?

Scores are hardness: sign applied, higher is harder. Ids that are NaN on either side leave the
comparison and are counted. Two metrics read from the same training run share that run's accidents,
and the accidents correlate; ``agreement`` therefore compares means over disjoint runs only.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer, Shaped
from scipy.stats import kendalltau

from hardness.estimate import Estimate
from hardness.ranks import (
    FEWEST_SAMPLES,
    ROUNDING,
    Number,
    ascending_order,
    centred_ranks,
    class_blocks,
    class_codes,
    class_mean_correlations,
    standardised,
    topk_borders,
    topk_overlaps,
)
from hardness.resampling import (
    MOST_SAMPLES_TO_RESAMPLE,
    NORMAL_REACH,
    ends_of_halves,
    percentile_ends,
    resamples,
)
from hardness.shapes import PerRun, PerSample, check_axes, of_runs, of_samples
from hardness.stability import (
    counted,
    mean_over_runs,
    reliability_of_one,
    spearman_brown,
)
from hardness.threads import in_threads, one_blas_thread

Vector = Float[np.ndarray, " samples"]
Labels = Integer[np.ndarray, " samples"]


# Correlation of two vectors


def spearman(x: PerSample, y: PerSample) -> Estimate:
    """Spearman's rank correlation: Pearson's on ranks, ties by average rank.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.

    Returns:
        Between -1 and 1; NaN with the reason if fewer than two ids have both scores or if either
        side ties on all of them. The reason also counts the ids left out.

    Example:
        >>> result = spearman(np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 3.0, 2.0, 4.0]))
        >>> round(result.value, 3), result.reason
        (0.5, '1 ids left out for NaN')

    References:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    return spearman_within_class(x, y, np.zeros(np.size(x), dtype=np.int64))


def kendall_tau_b(x: PerSample, y: PerSample) -> Estimate:
    """Kendall's tau-b: concordant less discordant pairs of samples, corrected for ties.

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
    """Shared part of the hardest ``percent`` % by either metric.

    Ties cut by the border belong to a top in part, as in ``stability.topk_jaccard``; the sum of
    minima of the two shares over k. Two unrelated metrics reach ``percent / 100``.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        percent: Size of the top, from 1 to 100.
        draws: For an interval, halves of the ids drawn without replacement: duplicates, as other
            resamples have, would share a top by themselves.
        seed: Of the draws.

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

    Shown beside the pooled value, since a class that is hard by both metrics correlates them
    without any agreement on samples. A class in which either side ties on all samples leaves the
    mean, weight and all.

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


def pearson_of_within_class_ranks(x: PerSample, y: PerSample, labels: PerSample) -> Estimate:
    """Pearson's correlation of ``(rank - 0.5) / n_c``, ranked inside each class and then pooled.

    Unlike ``spearman_within_class`` it keeps a class in which only one side varies, whose
    variation then counts as disagreement.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        labels: Given class per sample.

    Returns:
        Between -1 and 1; NaN with the reason as for ``spearman``, or if a side varies in no class.

    Example:
        >>> x, y = np.array([1.0, 2.0, 8.0, 9.0]), np.array([1.0, 2.0, 9.0, 9.0])
        >>> round(pearson_of_within_class_ranks(x, y, np.array([0, 0, 1, 1])).value, 3)
        0.707
    """
    both, kept, undefined, dropped = paired(x=x, y=y)
    check_axes("labels", labels, ("samples",), len(kept))
    value = math.nan
    if not undefined:
        codes = class_codes(labels[kept])
        # Every class has mean 0.5, so ranks centred in their class are centred when pooled.
        u, v = centred_ranks(both, codes) / np.bincount(codes)[codes]
        norm = math.sqrt(u @ u) * math.sqrt(v @ v)
        value = float(u @ v / norm) if norm > 0 else math.nan
        undefined = "" if norm > 0 else "one side varies in no class"
    return counted(Estimate(value=value, reason=undefined), dropped)


def partial_spearman(x: PerSample, y: PerSample, control: PerSample) -> Estimate:
    """Spearman's correlation of what is left of two metrics once a third score is taken out.

    Pearson's correlation of the residuals of ranks after a line through the ranks of the control:
    ``(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2))``. Controls that explain much of what
    metrics share are ``image_entropy``, the norm of the embedding and the mean of a score in its
    class.

    Args:
        x: Hardness by one metric.
        y: Hardness by the other, same samples.
        control: The score to hold fixed, same samples.

    Returns:
        Between -1 and 1; NaN with the reason if fewer than two ids have all three scores, if one
        ties on all of them, or if the control orders the samples as ``x`` or ``y`` does, or the
        other way round. The reason also counts the ids left out.

    Example:
        >>> x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])
        >>> size = np.array([1.0, 2.0, 4.0, 3.0])  # r_xy 0.6, r_xz 0.8, r_yz 0.8
        >>> spearman(x, y).value, round(partial_spearman(x, y, size).value, 3)
        (0.6, -0.111)

    References:
        Yule, On the theory of correlation for any number of variables, 1907; of ranks as
        pingouin's ``partial_corr`` has it.
    """
    three, _, undefined, dropped = paired(x=x, y=y, control=control)
    value = math.nan
    if not undefined:
        value = _partial_correlation(*centred_ranks(three))
        undefined = "the control leaves nothing of x or of y" if math.isnan(value) else ""
    return counted(Estimate(value=value, reason=undefined), dropped)


def disattenuated(rho: Number, reliability_x: Number, reliability_y: Number) -> Estimate:
    """Correlation that two metrics would have without seed noise: ``rho / sqrt(r_x r_y)``.

    Holds only for scores from disjoint runs: shared runs share errors, which raise ``rho`` and
    with it the quotient. Not capped, so that an excess over 1 shows.

    Args:
        rho: Correlation between the two aggregated scores.
        reliability_x: Reliability r_m of the first at the m runs that were averaged.
        reliability_y: The same for the second; 1 for a metric without randomness.

    Returns:
        The corrected correlation; NaN with the reason if a reliability is not positive or unknown.

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
    """SciPy's tau without its p-value's warnings; ranks instead of scores keep infinities away."""
    with np.errstate(all="ignore"):
        return float(kendalltau(x, y).statistic)


def paired(
    **scores: PerSample,
) -> tuple[Float[np.ndarray, "scores kept"], Bool[np.ndarray, " samples"], str, int]:
    """Scores of the samples that have all of them.

    Args:
        scores: Two scores or three, by the name that errors and reasons call them.

    Returns:
        A row for each score; which samples are kept; why no statistic exists, empty if some do;
        and the number of samples left out.

    Raises:
        ValueError: If one of them is no ``[samples]``, or they differ in samples.

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
    """Correlation of centred ranks less their projections on the control's; NaN if one is 0."""
    left = [row - (row @ control) / (control @ control) * control for row in (x, y)]
    squares = [float(rest @ rest) for rest in left]
    if any(rest <= ROUNDING * (row @ row) for rest, row in zip(squares, (x, y), strict=True)):
        return math.nan
    return float(np.clip(left[0] @ left[1] / math.sqrt(squares[0] * squares[1]), -1, 1))


# Disjoint runs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreSet:
    """One metric's hardness over the runs of one configuration.

    Args:
        name: How tables call it.
        scores: One row per run.
        runs: Ids of those runs; empty, with a single row, for a metric without randomness.
        reliability: Correlation of single runs, pooled and within class, where ``stability`` of
            the same scores has found it already.

    Raises:
        ValueError: If rows and run ids do not match, an id repeats, or the axes are others.
    """

    name: str
    scores: PerRun
    runs: tuple[str, ...] = ()
    reliability: tuple[Estimate, Estimate] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", of_runs(self.name, self.scores))
        if len(self.scores) != max(len(self.runs), 1):
            raise ValueError(
                f"{self.name}: expected one row per run id, or one row and no id for a metric "
                f"without randomness; got {len(self.scores)} rows and {len(self.runs)} ids"
            )
        if len(set(self.runs)) != len(self.runs):
            raise ValueError(f"{self.name}: expected run ids without repeats; got {self.runs}")


def halves_of_runs(
    shared: tuple[str, ...], splits: int, seed: int
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Distinct ways to split the shared runs in two: all if few enough, else that many drawn."""
    if not shared:
        return []
    runs, half = len(shared), len(shared) // 2
    if math.comb(runs, half) // (1 if runs % 2 else 2) <= splits:
        chosen = [set(c) for c in combinations(range(runs), half) if runs % 2 or 0 in c]
    else:
        chosen = _drawn_halves(runs, splits, seed)
    return [
        (
            tuple(run for place, run in enumerate(shared) if place in places),
            tuple(run for place, run in enumerate(shared) if place not in places),
        )
        for places in chosen
    ]


def _drawn_halves(runs: int, splits: int, seed: int) -> list[set[int]]:
    generator = np.random.default_rng((seed, 0))
    chosen: list[set[int]] = []
    while len(chosen) < splits:
        places = set(generator.permutation(runs)[: runs // 2].tolist())
        if not runs % 2 and 0 not in places:
            places = set(range(runs)) - places  # of two equal halves either names the split
        if places not in chosen:
            chosen.append(places)
    return chosen


# The supervised reference


REFERENCE_CLUSTERS = (
    ("mean_loss", "aum", "cartography_confidence"),
    ("forgetting_events", "fslt"),
)


def supervised_reference(
    scores: Mapping[str, PerRun], without: str | None = None
) -> Float[np.ndarray, "runs samples"]:
    """Reference ranking from supervised training, for label-free metrics to be compared with.

    Per run, the mean over two clusters of the mean inside each of normalised ranks,
    ``(rank - 0.5) / N``. The clusters, ``mean_loss``, ``aum``, ``cartography_confidence`` and
    ``forgetting_events``, ``fslt``, weigh the same: within one, metrics are nearly one quantity.

    Args:
        scores: Hardness by metric key, runs and samples aligned; further keys are ignored.
        without: A member that is to be compared with the reference, whose whole cluster is
            therefore left out.

    Returns:
        Between 0 and 1, higher is harder; NaN where a member in use is NaN in that run.

    Raises:
        ValueError: If ``without`` is no member, a needed member is missing, or shapes differ.

    Example:
        >>> runs = {"forgetting_events": np.array([[0.0, 2.0]]), "fslt": np.array([[3.0, 3.0]])}
        >>> supervised_reference(runs, without="aum")
        array([[0.375, 0.625]])
    """
    members = [member for cluster in REFERENCE_CLUSTERS for member in cluster]
    if without is not None and without not in members:
        raise ValueError(f"without: expected one of {', '.join(members)}; got {without!r}")
    clusters = [cluster for cluster in REFERENCE_CLUSTERS if without not in cluster]
    needed = [member for cluster in clusters for member in cluster]
    missing = [member for member in needed if member not in scores]
    if missing:
        raise ValueError(
            f"scores: expected {', '.join(missing)} for the reference; got {list(scores)}"
        )
    members_scores = {member: of_runs(member, scores[member]) for member in needed}
    shapes = {member: rows.shape for member, rows in members_scores.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"scores: expected one shape for all members; got {shapes}")
    runs = np.stack([*members_scores.values()], axis=1)
    weights = np.concatenate([np.full(len(c), 1 / len(c) / len(clusters)) for c in clusters])
    return np.stack(in_threads(lambda run: _mean_normalised_rank(run, weights), runs))


def _mean_normalised_rank(
    members: Float[np.ndarray, "members samples"], weights: Float[np.ndarray, " members"]
) -> Vector:
    kept = ~np.isnan(members).any(axis=0)
    count = np.count_nonzero(kept)
    mean = np.full(len(kept), np.nan)
    # The centre of the ranks is (N + 1) / 2, so (rank - 0.5) / N is the centred rank / N + 0.5.
    mean[kept] = 0.5 + weights @ centred_ranks(members[:, kept]) / max(count, 1)
    return mean


# The table


TOPS = (5, 10, 20)
POINTS = (
    "spearman",
    *(f"topk_overlap_{percent}" for percent in TOPS),
    "spearman_within_class",
    "disattenuated",
    "disattenuated_within_class",
)
STATISTICS = (
    "spearman",
    "spearman_low",
    "spearman_high",
    "kendall_tau_b",
    *(f"topk_overlap_{percent}" for percent in TOPS),
    "spearman_within_class",
    "spearman_within_class_low",
    "spearman_within_class_high",
    "disattenuated",
    "disattenuated_within_class",
)
MOST_SAMPLES_FOR_EVERY_TAU = 10_000
PRODUCTS_AT_ONCE = 4_000_000  # 32 MB

Split = tuple[tuple[str, ...], ...]  # runs of either side; a single side is both


def agreement(
    left: Sequence[ScoreSet],
    right: Sequence[ScoreSet] | None,
    labels: PerSample,
    *,
    draws: int = 1000,
    splits: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Table of agreement between metrics, every pair on disjoint runs.

    Sets that share no run are compared by their means over all runs. Sets that share runs are
    compared by means over disjoint halves of the shared runs, both ways round, and every statistic
    is averaged over the splits; an odd number of runs splits into unequal halves. Sets that share
    a single run cannot be split: their row is NaN and says why. An id counts for a pair if no run
    of either set is NaN there. See ``stability.mean_over_runs`` for
    infinities.

    Intervals resample ids, the same draws for every pair, with ranks kept as they are, and take
    the 2.5 and 97.5 percentiles; above 20,000 ids they are the value plus and minus 1.96
    influence-function standard errors. They hold for these runs: seed noise is stability's
    business. ``kendall_tau_b`` above 10,000 ids comes from the first split, one way round, only.

    Args:
        left: Metrics for the first side of the pairs.
        right: Metrics for the second side; None pairs every two of ``left``.
        labels: Given class per sample, the same for all.
        draws: Resamples for the intervals; 0 for point estimates alone.
        splits: Ways to halve the shared runs: all if there are no more, else this many at random.
        seed: Seed of the random splits and of the resamples.

    Returns:
        One row per pair: names; samples used and dropped; runs averaged on each side, on average
        over splits; the statistics under their keys, intervals as ``_low`` and ``_high``; and the
        reason for whatever is missing. ``disattenuated`` uses the reliability at the runs really
        averaged, from each set's own runs, and 1 for a metric without randomness.

    Raises:
        ValueError: If sets and labels differ in length, or ``draws`` or ``splits`` make no sense.

    Example:
        >>> loss = ScoreSet(name="loss", scores=np.array([[1.0, 2.0, 3.0, 4.0]]))
        >>> aum = ScoreSet(name="aum", scores=np.array([[1.0, 3.0, 2.0, 4.0]]))
        >>> table = agreement([loss, aum], None, np.array([0, 0, 1, 1]), draws=0)
        >>> table[["left", "right", "spearman", "spearman_within_class"]].to_dict("records")
        [{'left': 'loss', 'right': 'aum', 'spearman': 0.8, 'spearman_within_class': 1.0}]

    References:
        Spearman, The proof and measurement of association between two things, 1904, for the
        correction for attenuation.
    """
    sets = [*left, *(right or ())]
    sides = range(len(left)), range(len(left), len(sets))
    pairs = list(combinations(sides[0], 2)) if right is None else list(product(*sides))
    table = agreement_of_pairs(sets, pairs, labels, splits=splits, seed=seed)
    every = range(len(pairs))
    return with_details(table, every, sets, pairs, labels, draws=draws, splits=splits, seed=seed)


def agreement_of_pairs(
    sets: Sequence[ScoreSet],
    pairs: Sequence[tuple[int, int]],
    labels: PerSample,
    *,
    splits: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Point estimates of chosen pairs; ``with_details`` adds Kendall's tau and the intervals.

    A set is ranked once a split, in however many pairs it is.

    Args:
        sets: Metrics.
        pairs: Places in ``sets`` of left and right.
        labels: Given class per sample, the same for all.
        splits: Ways to halve the shared runs.
        seed: Seed of the random splits.

    Returns:
        One row per pair, with the columns of ``agreement``; those of the details are NaN.

    Raises:
        ValueError: As ``agreement`` does.

    Example:
        >>> scores = (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]]))
        >>> x, y = (ScoreSet(name=name, scores=s) for name, s in zip("xy", scores))
        >>> agreement_of_pairs([x, y], [(1, 0)], np.zeros(3, int))["left"].tolist()
        ['y']
    """
    _check(sets, labels, 0, splits)
    table = _empty_table(pairs, sets)
    with one_blas_thread():
        groups = _groups(sets, pairs, labels)
        distinct = {id(one): one for group in groups for one in group.sets}
        found = in_threads(lambda one: _reliability(one, labels), distinct.values())
        reliabilities = dict(zip(distinct, found, strict=True))
        for group in groups:
            own = [reliabilities[id(one)] for one in group.sets]
            names = [(table["left"][place], table["right"][place]) for place in group.places]
            for key, values in _point_columns(group, own, names, splits, seed).items():
                table[key][group.places] = values
    return pd.DataFrame(table)


def with_details(
    table: pd.DataFrame,
    rows: Sequence[int],
    sets: Sequence[ScoreSet],
    pairs: Sequence[tuple[int, int]],
    labels: PerSample,
    *,
    draws: int = 1000,
    splits: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """The table with Kendall's tau and the intervals in some rows: what takes time for each pair.

    Args:
        table: From ``agreement_of_pairs`` of the same sets, pairs, labels, splits and seed.
        rows: Rows that get them.
        sets: Metrics.
        pairs: Places in ``sets`` of left and right, of every row.
        labels: Given class per sample.
        draws: Resamples for the intervals; 0 for Kendall's tau alone.
        splits: Ways to halve the shared runs.
        seed: Seed of the random splits and of the resamples.

    Returns:
        A copy of the table.

    Raises:
        ValueError: As ``agreement`` does.

    Example:
        >>> scores = (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]]))
        >>> sets = [ScoreSet(name=name, scores=s) for name, s in zip("xy", scores)]
        >>> pairs, labels = [(0, 1), (1, 0)], np.zeros(3, int)
        >>> table = agreement_of_pairs(sets, pairs, labels)
        >>> with_details(table, [1], sets, pairs, labels)["kendall_tau_b"].round(3).tolist()
        [nan, 0.333]
    """
    _check(sets, labels, draws, splits)
    columns = {key: table[key].to_numpy(copy=True) for key in STATISTICS}
    with one_blas_thread():
        for group in _groups(sets, [pairs[row] for row in rows], labels):
            here = np.array(rows)[group.places]
            if not group.undefined:
                points = {key: columns[key][here] for key in POINTS}
                for key, values in _details(group, points, draws, splits, seed).items():
                    columns[key][here] = values
    return table.assign(**columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reliability:
    """Correlation of a set's single runs, pooled and within class; none for one without runs."""

    pooled: Estimate
    within: Estimate

    def at(self, runs: int) -> tuple[float, float]:
        """Reliabilities of a mean over that many runs, NaN unless positive."""
        if not runs:
            return 1.0, 1.0
        means = (float(spearman_brown(r_1.value, runs)) for r_1 in (self.pooled, self.within))
        pooled, within = (r_m if r_m > 0 else math.nan for r_m in means)
        return pooled, within


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Group:
    """Pairs with the same ids and the same shared runs: each half-mean is ranked once for all."""

    places: list[int]  # of the pairs among all
    sets: list[ScoreSet]
    left: Integer[np.ndarray, " pairs"]
    right: Integer[np.ndarray, " pairs"]
    shared: tuple[str, ...]
    ids: Integer[np.ndarray, " kept"]  # one class after the other
    labels: Integer[np.ndarray, " samples"]

    @property
    def undefined(self) -> str:
        """Why these pairs cannot be compared; empty if they can."""
        if len(self.shared) == 1:
            return f"one shared run ({self.shared[0]}): no disjoint halves"
        if len(self.ids) < FEWEST_SAMPLES:
            return f"needs {FEWEST_SAMPLES} samples with both scores, got {len(self.ids)}"
        return ""

    def splits(self, most: int, seed: int) -> Sequence[Split]:
        """Disjoint halves of the shared runs; all runs of either set, if they share none."""
        return halves_of_runs(self.shared, most, seed) or [((),)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ranks:
    """Centred ranks of each set's mean over the runs of each slot; a split is two slots or one.

    Ranks are halves of whole numbers, which float32 holds exactly up to 8 million samples.
    """

    centred: Float[np.ndarray, "sets slots kept"]
    codes: Integer[np.ndarray, " kept"]
    borders: Float[np.ndarray, "sets slots tops"]  # of the ``TOPS``

    def ways(self) -> list[tuple[int, int]]:
        """Slots of left and right: every split both ways round; whole sets have but one way."""
        firsts = range(0, self.centred.shape[1] - 1, 2)
        return [way for a in firsts for way in ((a, a + 1), (a + 1, a))] or [(0, 0)]


def _groups(
    sets: Sequence[ScoreSet], pairs: Sequence[tuple[int, int]], labels: Labels
) -> list[_Group]:
    # Some sets are the very same under several names, such as the reference without one metric of a
    # cluster and without another: the first of them stands for all.
    first: dict[tuple[int, tuple[str, ...]], int] = {}
    stands = [first.setdefault((id(one.scores), one.runs), k) for k, one in enumerate(sets)]
    observed = [~np.isnan(one.scores).any(axis=0) for one in sets]
    alike: dict[tuple[tuple[str, ...], bytes], list[int]] = defaultdict(list)
    for place, (i, j) in enumerate(pairs):
        shared = tuple(sorted({*sets[i].runs} & {*sets[j].runs}))
        alike[shared, (observed[i] & observed[j]).tobytes()].append(place)
    groups = []
    for (shared, kept), places in alike.items():
        sides = [[stands[member] for member in pairs[place]] for place in places]
        used = sorted({member for pair in sides for member in pair})
        ids = np.flatnonzero(np.frombuffer(kept, dtype=np.bool_))
        groups.append(
            _Group(
                places=places,
                sets=[sets[member] for member in used],
                left=np.array([used.index(left) for left, _ in sides]),
                right=np.array([used.index(right) for _, right in sides]),
                shared=shared,
                ids=ids[np.argsort(labels[ids], kind="stable")],
                labels=labels,
            )
        )
    return groups


def _rank(group: _Group, slots: Sequence[tuple[str, ...]]) -> tuple[_Ranks, _Ranks]:
    """Pooled and within-class ranks, from one sort of each mean."""
    codes = class_codes(group.labels[group.ids])
    shape = len(group.sets), len(slots), len(group.ids)
    pooled, within = np.empty(shape, np.float32), np.empty(shape, np.float32)
    borders = np.empty((*shape[:2], len(TOPS)), np.float32)
    ascending = np.sort(group.ids)
    by_class = np.searchsorted(ascending, group.ids)
    every = len(ascending) == len(group.labels)

    def rank(place: int) -> None:
        scores = group.sets[place]
        kept = scores.scores if every else scores.scores[:, ascending]
        rows = [[scores.runs.index(run) for run in slot] or slice(None) for slot in slots]
        means = np.stack([mean_over_runs(kept[row])[by_class] for row in rows])
        orders = ascending_order(means)
        pooled[place] = centred_ranks(means, orders=orders)
        within[place] = centred_ranks(means, codes, orders=orders)
        for top, percent in enumerate(TOPS):
            borders[place, :, top] = topk_borders(pooled[place], percent, orders=orders)

    in_threads(rank, range(len(group.sets)))
    return (
        _Ranks(centred=pooled, codes=np.zeros_like(codes), borders=borders),
        _Ranks(centred=within, codes=codes, borders=borders),
    )


def _point_columns(
    group: _Group,
    own: Sequence[_Reliability],
    names: Sequence[tuple[str, str]],
    splits: int,
    seed: int,
) -> dict[str, object]:
    """The table's columns for one group; what it leaves out stays NaN."""
    columns: dict[str, object] = {
        "samples": len(group.ids),
        "dropped": len(group.labels) - len(group.ids),
    }
    if group.undefined:
        return columns | {"reason": group.undefined}
    halves = group.splits(splits, seed)
    counts = np.array(
        [[[len(slot or one.runs) for slot in split] for split in halves] for one in group.sets]
    )
    reliabilities = np.array(
        [
            [[r_1.at(runs) for runs in split] for split in of_set]
            for r_1, of_set in zip(own, counts.tolist(), strict=True)
        ]
    )
    points, constant = _points(group, halves, reliabilities)
    return columns | {
        "runs_left": counts[group.left].mean(axis=(1, 2)),
        "runs_right": counts[group.right].mean(axis=(1, 2)),
        **points,
        "reason": _reasons(group, own, names, constant, points),
    }


def _points(
    group: _Group,
    halves: Sequence[Split],
    reliabilities: Float[np.ndarray, "sets splits sides 2"],
) -> tuple[dict[str, Float[np.ndarray, " pairs"]], Bool[np.ndarray, " sets"]]:
    """Every point estimate, averaged over splits and both ways round.

    Also, which sets are constant: all samples tie in one of their halves.
    """
    left, right = group.left, group.right
    sums = {key: np.zeros(len(left)) for key in POINTS}
    constant = np.zeros(len(group.sets), dtype=np.bool_)
    for split, slots in enumerate(halves):
        pooled, within = _rank(group, slots)
        a, b = 0, len(slots) - 1
        # Of the matrix of every set in slot a with every set in slot b, one triangle is x from a
        # and y from b, the other the reverse.
        work: list[Callable[[], Float[np.ndarray, "sets sets"]]] = [
            *(partial(_overlaps, pooled, a, b, percent) for percent in TOPS),
            *(partial(_correlations, ranks, a, b) for ranks in (pooled, within)),
        ]
        *overlaps, rho, rho_within = in_threads(lambda one: one(), work)
        own = reliabilities[:, split]
        noise = np.sqrt(own[:, None, a] * own[None, :, b])
        tables = {f"topk_overlap_{k}": table for k, table in zip(TOPS, overlaps, strict=True)}
        tables |= {"spearman": rho, "disattenuated": rho / noise[..., 0]}
        tables["spearman_within_class"] = rho_within
        tables["disattenuated_within_class"] = rho_within / noise[..., 1]
        for key, table in tables.items():
            sums[key] += (table[left, right] + table[right, left]) / 2
        constant |= (pooled.centred == 0).all(axis=2).any(axis=1)
    return {key: total / len(halves) for key, total in sums.items()}, constant


def _overlaps(ranks: _Ranks, a: int, b: int, percent: int) -> Float[np.ndarray, "sets sets"]:
    x, y = (ranks.centred[:, slot] for slot in (a, b))
    top = TOPS.index(percent)
    borders = ranks.borders[:, a, top], ranks.borders[:, b, top]
    overlaps = topk_overlaps(x, y, percent, borders=borders)
    overlaps[~x.any(axis=1)] = np.nan  # a constant has no top
    overlaps[:, ~y.any(axis=1)] = np.nan
    return overlaps


def _correlations(ranks: _Ranks, a: int, b: int) -> Float[np.ndarray, "sets sets"]:
    return class_mean_correlations(ranks.centred[:, a], ranks.centred[:, b], ranks.codes)


def _details(
    group: _Group,
    points: Mapping[str, Float[np.ndarray, " pairs"]],
    draws: int,
    splits: int,
    seed: int,
) -> dict[str, Float[np.ndarray, " pairs"]]:
    """Kendall's tau, and with draws the ends of the intervals."""
    slots = [slot for split in group.splits(splits, seed) for slot in split]
    pooled, within = _rank(group, slots)
    columns = {"kendall_tau_b": _taus(group, pooled)}
    kinds = {"spearman": pooled, "spearman_within_class": within}
    if not draws:
        return columns
    if len(group.ids) > MOST_SAMPLES_TO_RESAMPLE:
        for key, ranks in kinds.items():
            reach = NORMAL_REACH * _standard_errors(group, ranks)
            columns |= {f"{key}_low": points[key] - reach, f"{key}_high": points[key] + reach}
        return columns
    drawn: dict[str, list[Float[np.ndarray, "chunk pairs"]]] = defaultdict(list)
    every = [np.arange(len(group.labels))]
    for weights in resamples(len(group.labels), every, draws, (seed, 1)):
        reweighted = partial(_reweighted, group, weights=weights[:, group.ids])
        for key, found in zip(kinds, in_threads(reweighted, kinds.values()), strict=True):
            drawn[key].append(found)
    for key, chunks in drawn.items():
        columns[f"{key}_low"], columns[f"{key}_high"] = percentile_ends(np.concatenate(chunks))
    return columns


def _taus(group: _Group, ranks: _Ranks) -> Float[np.ndarray, " pairs"]:
    """Kendall's tau of each pair, averaged over splits and both ways round.

    Milliseconds a time, hence of one way of one split if there are many samples.
    """
    few = len(group.ids) <= MOST_SAMPLES_FOR_EVERY_TAU
    ways = ranks.ways() if few else ranks.ways()[:1]

    def tau(pair: tuple[int, int]) -> float:
        x, y = (ranks.centred[member] for member in pair)
        # The slot that comes first is the first argument: another order moves the last bit.
        taus = (tau_b(x[a], y[b]) if a <= b else tau_b(y[b], x[a]) for a, b in ways)
        return sum(taus) / len(ways)

    pairs = zip(group.left.tolist(), group.right.tolist(), strict=True)
    return np.array(in_threads(tau, pairs))


def _reweighted(
    group: _Group, ranks: _Ranks, weights: Float[np.ndarray, "chunk kept"]
) -> Float[np.ndarray, "chunk pairs"]:
    """Class-averaged correlation under each draw: moments of all draws in one product a class."""
    left, right, ways = group.left, group.right, ranks.ways()
    sets, slots, _ = ranks.centred.shape
    sums = np.zeros((2, len(ways), len(weights), len(left)))  # of n_c r_c, and of n_c
    for block in class_blocks(ranks.codes):
        drawn = weights[:, block]
        values = ranks.centred[:, :, block].astype(np.float64)
        rows = values.reshape(sets * slots, -1).T
        n = drawn.sum(axis=1)[:, None]
        first = (drawn @ rows).reshape(-1, sets, slots)
        second = (drawn @ rows**2).reshape(-1, sets, slots)
        spread = n[..., None] * second - first**2
        varies = spread > ROUNDING * n[..., None] * second
        for way, (a, b) in enumerate(ways):
            mixed = _product_sums(drawn, values, (left, a), (right, b))
            above = n * mixed - first[:, left, a] * first[:, right, b]
            both = varies[:, left, a] & varies[:, right, b]
            below = np.sqrt(np.where(both, spread[:, left, a] * spread[:, right, b], 1))
            sums[0, way] += np.where(both, n * above / below, 0)
            sums[1, way] += n * both
    with np.errstate(invalid="ignore"):
        return (sums[0] / sums[1]).mean(axis=0)


def _product_sums(
    weights: Float[np.ndarray, "chunk kept"],
    values: Float[np.ndarray, "sets slots kept"],
    x: tuple[Integer[np.ndarray, " pairs"], int],
    y: tuple[Integer[np.ndarray, " pairs"], int],
) -> Float[np.ndarray, "chunk pairs"]:
    """Weighted sums of x times y, a slice of the pairs at a time for memory."""
    (left, a), (right, b) = x, y
    step = max(1, PRODUCTS_AT_ONCE // values.shape[-1])
    parts = [slice(start, start + step) for start in range(0, len(left), step)]
    products = (values[left[part], a] * values[right[part], b] for part in parts)
    return np.concatenate([weights @ rows.T for rows in products], axis=1)


def _standard_errors(group: _Group, ranks: _Ranks) -> Float[np.ndarray, " pairs"]:
    """Standard error over ids of the mean over splits, from each id's mean influence on it.

    With x and y standardised in class c and r_c their correlation, an id moves the class-averaged
    correlation r by ``x y - r_c (x^2 + y^2) / 2 + r_c - r``, the last two for its class's size.
    """
    samples, sizes, ways = len(ranks.codes), np.bincount(ranks.codes), ranks.ways()
    starts = np.cumsum(sizes) - sizes
    scaled = np.empty_like(ranks.centred)
    varies = np.empty((*scaled.shape[:2], len(sizes)), dtype=np.bool_)
    for slot in range(scaled.shape[1]):
        scaled[:, slot], varies[:, slot] = standardised(ranks.centred[:, slot], ranks.codes)
    errors = np.full(len(group.left), np.nan)
    for pair, (i, j) in enumerate(zip(group.left, group.right, strict=True)):
        influence = np.zeros(samples)
        for a, b in ways:
            x, y, both = scaled[i, a], scaled[j, b], varies[i, a] & varies[j, b]
            if not both.any():
                break
            within = np.add.reduceat(x * y, starts, dtype=np.float64) / sizes
            weights = both / (sizes @ both)
            size_effect = within - weights * sizes @ within
            moved = x * y - np.repeat(within / 2, sizes) * (x * x + y * y)
            influence += (moved + np.repeat(size_effect, sizes)) * np.repeat(weights, sizes)
        else:
            errors[pair] = math.sqrt(influence @ influence) / len(ways)
    return errors


def _check(sets: Sequence[ScoreSet], labels: PerSample, draws: int, splits: int) -> None:
    check_axes("labels", labels, ("samples",))
    for scores in sets:
        if scores.scores.shape[1] != len(labels):
            raise ValueError(
                f"{scores.name}: expected {len(labels)} samples, one per label; "
                f"got {scores.scores.shape[1]}"
            )
    if draws < 0 or splits < 1:
        raise ValueError(
            f"expected draws of at least 0 and splits of at least 1; got {draws} and {splits}"
        )


def _empty_table(
    pairs: Sequence[tuple[int, int]], sets: Sequence[ScoreSet]
) -> dict[str, Shaped[np.ndarray, " pairs"]]:
    count = len(pairs)
    return {
        "left": np.array([sets[i].name for i, _ in pairs], dtype=object),
        "right": np.array([sets[j].name for _, j in pairs], dtype=object),
        "samples": np.zeros(count, dtype=np.int64),
        "dropped": np.zeros(count, dtype=np.int64),
        "runs_left": np.zeros(count),
        "runs_right": np.zeros(count),
        **{key: np.full(count, np.nan) for key in STATISTICS},
        "reason": np.full(count, "", dtype=object),
    }


def _reliability(scores: ScoreSet, labels: Labels) -> _Reliability:
    if not scores.runs:
        return _Reliability(pooled=Estimate(value=1.0), within=Estimate(value=1.0))
    pooled, within = scores.reliability or reliability_of_one(scores.scores, labels)
    return _Reliability(pooled=pooled, within=within)


def _reasons(
    group: _Group,
    own: Sequence[_Reliability],
    names: Sequence[tuple[str, str]],
    constant: Bool[np.ndarray, " sets"],
    points: Mapping[str, Float[np.ndarray, " pairs"]],
) -> list[str]:
    """Why each pair misses what it misses, in words."""
    reasons = []
    for pair, (i, j) in enumerate(zip(group.left, group.right, strict=True)):
        left, right = names[pair]
        both = [(left, own[i], constant[i]), (right, own[j], constant[j])]
        found = [f"{name}: all samples tie" for name, _, ties in both if ties]
        if not found and math.isnan(points["spearman_within_class"][pair]):
            found.append("in no class do both vary")
        for key, kind in (("spearman", "pooled"), ("spearman_within_class", "within")):
            if not math.isnan(points[key][pair]):
                found += [_unreliable(name, getattr(r_1, kind), kind) for name, r_1, _ in both]
        reasons.append("; ".join(filter(None, dict.fromkeys(found))))
    return reasons


def _unreliable(name: str, r_1: Estimate, kind: str) -> str:
    """Why a correlation of this set cannot be disattenuated; empty if it can."""
    if math.isnan(r_1.value):
        return f"{name}: {kind} reliability unknown ({r_1.reason})"
    return "" if r_1.value > 0 else f"{name}: {kind} r_1 = {r_1.value:.3g} is not positive"
