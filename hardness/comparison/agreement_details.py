"""Kendall's tau and intervals for chosen pairs of metrics."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from hardness.comparison.correlation import tau_b
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.ranks import ROUNDING, class_blocks, standardised
from hardness.comparison.resampling import (
    MOST_SAMPLES_TO_RESAMPLE,
    NORMAL_REACH,
    percentile_ends,
    resamples,
)
from hardness.comparison.split_ranks import (
    MOST_SAMPLES_FOR_EVERY_TAU,
    POINTS,
    PRODUCTS_AT_ONCE,
    STATISTICS,
    Group,
    Ranks,
    check_sets,
    groups_of_pairs,
    ranks_of_splits,
)
from hardness.shapes import PerSample
from hardness.threads import in_threads, one_blas_thread


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
    """Add Kendall's tau and intervals, which are slow to compute, to some rows of a table.

    Args:
        table: Table from ``agreement_of_pairs`` for the same sets, pairs, labels, splits and seed.
        rows: Numbers of the rows to complete.
        sets: Metrics.
        pairs: Positions in ``sets`` of left and right, for every row of the table.
        labels: Given class per sample.
        draws: Number of resamples for the intervals; 0 for Kendall's tau alone.
        splits: Number of ways to halve the shared runs.
        seed: Seed of the random splits and of the resamples.

    Returns:
        A copy of the table with these rows completed.

    Raises:
        ValueError: In the cases of ``agreement``.

    Example:
        >>> from hardness.comparison.agreement_table import agreement_of_pairs
        >>> scores = (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]]))
        >>> sets = [ScoreSet(name=name, scores=s) for name, s in zip("xy", scores)]
        >>> pairs, labels = [(0, 1), (1, 0)], np.zeros(3, int)
        >>> table = agreement_of_pairs(sets, pairs, labels)
        >>> with_details(table, [1], sets, pairs, labels)["kendall_tau_b"].round(3).tolist()
        [nan, 0.333]
    """
    check_sets(sets, labels, draws, splits)
    columns = {key: table[key].to_numpy(copy=True) for key in STATISTICS}
    with one_blas_thread():
        for group in groups_of_pairs(sets, [pairs[row] for row in rows], labels):
            here = np.array(rows)[group.places]
            if not group.undefined:
                points = {key: columns[key][here] for key in POINTS}
                for key, values in _details(group, points, draws, splits, seed).items():
                    columns[key][here] = values
    return table.assign(**columns)


def _details(
    group: Group,
    points: Mapping[str, Float[np.ndarray, " pairs"]],
    draws: int,
    splits: int,
    seed: int,
) -> dict[str, Float[np.ndarray, " pairs"]]:
    """Kendall's tau, and the ends of the intervals if ``draws`` is above 0."""
    slots = [slot for split in group.splits(splits, seed) for slot in split]
    pooled, within = ranks_of_splits(group, slots)
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


def _taus(group: Group, ranks: Ranks) -> Float[np.ndarray, " pairs"]:
    """Kendall's tau of each pair, averaged over splits and both assignments of the halves.

    Each tau takes milliseconds, so many samples get one assignment of one split only.
    """
    few = len(group.ids) <= MOST_SAMPLES_FOR_EVERY_TAU
    ways = ranks.ways() if few else ranks.ways()[:1]

    def tau(pair: tuple[int, int]) -> float:
        x, y = (ranks.centred[member] for member in pair)
        # The lower slot is always the first argument, since the order changes the last bit.
        taus = (tau_b(x[a], y[b]) if a <= b else tau_b(y[b], x[a]) for a, b in ways)
        return sum(taus) / len(ways)

    pairs = zip(group.left.tolist(), group.right.tolist(), strict=True)
    return np.array(in_threads(tau, pairs))


def _reweighted(
    group: Group, ranks: Ranks, weights: Float[np.ndarray, "chunk kept"]
) -> Float[np.ndarray, "chunk pairs"]:
    """Class-averaged correlation under each draw; one matrix product per class serves all draws."""
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
    """Weighted sums of x times y, computed for some pairs at a time to save memory."""
    (left, a), (right, b) = x, y
    step = max(1, PRODUCTS_AT_ONCE // values.shape[-1])
    parts = [slice(start, start + step) for start in range(0, len(left), step)]
    products = (values[left[part], a] * values[right[part], b] for part in parts)
    return np.concatenate([weights @ rows.T for rows in products], axis=1)


def _standard_errors(group: Group, ranks: Ranks) -> Float[np.ndarray, " pairs"]:
    """Standard error of each pair's mean over splits, from the mean influence of each id.

    Let x and y be standardised in class c, and r_c their correlation there. The influence of an id
    on the class-averaged correlation r is ``x y - r_c (x^2 + y^2) / 2 + r_c - r``. Its last two
    terms come from the class's size.
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
