"""Agreement of two metrics: do they call the same samples hard, beyond the noise of their seeds?

Scores are hardness: their sign is applied, and higher is harder. Ids that are NaN on either side
are dropped and counted. Two metrics of the same training run share the random effects of that run,
which correlate them. So ``agreement`` compares only means over disjoint runs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from hardness.comparison.agreement_details import with_details
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.ranks import class_mean_correlations, topk_overlaps
from hardness.comparison.split_ranks import (
    POINTS,
    STATISTICS,
    TOPS,
    Group,
    Ranks,
    Reliability,
    Split,
    check_sets,
    groups_of_pairs,
    ranks_of_splits,
    reasons,
    reliability,
)
from hardness.shapes import PerSample
from hardness.threads import in_threads, one_blas_thread


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
    compared by means over disjoint halves of these runs. Every statistic is averaged over the
    splits and both assignments of the halves. An odd number of runs gives unequal halves. A single
    shared run cannot be split: the row is NaN and says why. An id counts for a pair if no run of
    either set is NaN there. ``mean_over_runs`` says how infinities are averaged.

    Intervals are 2.5 and 97.5 percentiles over resamples of ids. All pairs use the same resamples,
    and samples are not ranked again. Above 20,000 ids, intervals are the value plus and minus 1.96
    influence-function standard errors. They ignore seed noise, which ``stability`` measures. Above
    10,000 ids, ``kendall_tau_b`` uses one assignment of the first split.

    Args:
        left: Metrics for the first side of the pairs.
        right: Metrics for the second side; if None, every two metrics of ``left`` are paired.
        labels: Given class per sample, the same for all.
        draws: Number of resamples for the intervals; 0 for point estimates alone.
        splits: Largest number of ways to halve the shared runs; if there are more, a random choice.
        seed: Seed of the random splits and of the resamples.

    Returns:
        One row per pair: names; samples used and dropped; runs averaged on each side, on average
        over splits; the statistics under their keys, intervals as ``_low`` and ``_high``; the
        reason for missing values. ``disattenuated`` uses each set's reliability at the number of
        runs averaged, and 1 for a metric without randomness.

    Raises:
        ValueError: If sets and labels differ in length, or ``draws`` or ``splits`` are too small.

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

    Args:
        sets: Metrics.
        pairs: Positions in ``sets`` of left and right.
        labels: Given class per sample, the same for all.
        splits: Number of ways to halve the shared runs.
        seed: Seed of the random splits.

    Returns:
        One row per pair, with the columns of ``agreement``; those of ``with_details`` are NaN.

    Raises:
        ValueError: In the cases of ``agreement``.

    Example:
        >>> scores = (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]]))
        >>> x, y = (ScoreSet(name=name, scores=s) for name, s in zip("xy", scores))
        >>> agreement_of_pairs([x, y], [(1, 0)], np.zeros(3, int))["left"].tolist()
        ['y']
    """
    check_sets(sets, labels, 0, splits)
    table = _empty_table(pairs, sets)
    with one_blas_thread():
        groups = groups_of_pairs(sets, pairs, labels)
        distinct = {id(one): one for group in groups for one in group.sets}
        found = in_threads(lambda one: reliability(one, labels), distinct.values())
        reliabilities = dict(zip(distinct, found, strict=True))
        for group in groups:
            own = [reliabilities[id(one)] for one in group.sets]
            names = [(table["left"][place], table["right"][place]) for place in group.places]
            for key, values in _point_columns(group, own, names, splits, seed).items():
                table[key][group.places] = values
    return pd.DataFrame(table)


def _point_columns(
    group: Group,
    own: Sequence[Reliability],
    names: Sequence[tuple[str, str]],
    splits: int,
    seed: int,
) -> dict[str, object]:
    """The table's columns for one group of pairs; a column that is left out stays NaN."""
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
        "reason": reasons(group, own, names, constant, points),
    }


def _points(
    group: Group,
    halves: Sequence[Split],
    reliabilities: Float[np.ndarray, "sets splits sides 2"],
) -> tuple[dict[str, Float[np.ndarray, " pairs"]], Bool[np.ndarray, " sets"]]:
    """Point estimates averaged over splits and both assignments of halves, and constant sets.

    A set is constant if all samples tie in one of its halves.
    """
    left, right = group.left, group.right
    sums = {key: np.zeros(len(left)) for key in POINTS}
    constant = np.zeros(len(group.sets), dtype=np.bool_)
    for split, slots in enumerate(halves):
        pooled, within = ranks_of_splits(group, slots)
        a, b = 0, len(slots) - 1
        # Each matrix compares every set in slot a with every set in slot b. One triangle has x from
        # a and y from b, the other the reverse.
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


def _overlaps(ranks: Ranks, a: int, b: int, percent: int) -> Float[np.ndarray, "sets sets"]:
    x, y = (ranks.centred[:, slot] for slot in (a, b))
    top = TOPS.index(percent)
    borders = ranks.borders[:, a, top], ranks.borders[:, b, top]
    overlaps = topk_overlaps(x, y, percent, borders=borders)
    overlaps[~x.any(axis=1)] = np.nan  # a constant score has no top
    overlaps[:, ~y.any(axis=1)] = np.nan
    return overlaps


def _correlations(ranks: Ranks, a: int, b: int) -> Float[np.ndarray, "sets sets"]:
    return class_mean_correlations(ranks.centred[:, a], ranks.centred[:, b], ranks.codes)


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
