"""Statistics of agreement that are too slow to compute for all pairs of a sweep."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Integer

from hardness.comparison.correlation import Vector, partial_spearman
from hardness.comparison.disjoint_runs import ScoreSet, halves_of_runs
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.rank_biased_overlap import rbo
from hardness.shapes import PerSample, check_axes, of_samples


def pairwise_agreement(
    sets: Sequence[ScoreSet],
    pairs: Sequence[tuple[int, int]],
    sample_ids: PerSample,
    *,
    control: PerSample | None = None,
    draws: int = 100,
    splits: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank-biased overlap and partial correlation of pairs of metrics, on disjoint runs.

    Runs are halved as in ``agreement``, and every number is averaged over splits and both
    assignments of the halves. The row of two metrics that share a single run is NaN.

    Args:
        sets: Metrics.
        pairs: Positions in ``sets`` of left and right.
        sample_ids: Id of each sample, by which ``rbo`` breaks ties.
        control: Score that ``partial_spearman`` holds fixed; without it that column is NaN.
        draws: Number of subsamples for the interval of ``rbo``; its ends are averaged over splits.
        splits: Number of ways to halve shared runs.
        seed: Seed of random splits, orders of ties and draws.

    Returns:
        One row per pair: ``rbo`` with its interval, ``rbo_extrapolated``, ``rbo_random_ties`` (the
        mean over random orders of ties) and ``partial_spearman``.

    Raises:
        ValueError: If sets, sample ids and control differ in samples.

    Example:
        >>> x, y = (
        ...     ScoreSet(name=name, scores=np.array([scores]))
        ...     for name, scores in (("x", [3.0, 2.0, 1.0]), ("y", [3.0, 1.0, 2.0]))
        ... )
        >>> pairwise_agreement([x, y], [(0, 1)], np.arange(3), draws=0)["rbo_extrapolated"].tolist()
        [0.875]
    """
    check_axes("sample_ids", sample_ids, ("samples",))
    samples = len(sample_ids)
    for one in sets:
        check_axes(one.name, one.scores, ("runs", "samples"), samples)
    order = np.argsort(sample_ids, kind="stable")
    held = None if control is None else of_samples("control", control, samples)[order]
    rows = [
        _row(sets[left], sets[right], order, held, draws, splits, seed) for left, right in pairs
    ]
    return pd.DataFrame(rows, columns=[*_NOTHING])


_NOTHING = dict.fromkeys(
    ("rbo", "rbo_low", "rbo_high", "rbo_extrapolated", "rbo_random_ties", "partial_spearman"),
    math.nan,
)


def _row(
    x: ScoreSet,
    y: ScoreSet,
    order: Integer[np.ndarray, " samples"],
    control: Vector | None,
    draws: int,
    splits: int,
    seed: int,
) -> dict[str, Any]:
    shared = tuple(run for run in x.runs if run in {*y.runs})
    if len(shared) == 1:
        return _NOTHING
    halves = halves_of_runs(shared, splits, seed)
    ways = [way for a, b in halves for way in ((a, b), (b, a))] or [((), ())]
    found = []
    for left, right in ways:
        u, v = _mean(x, left)[order], _mean(y, right)[order]
        overlap = rbo(u, v, draws=draws, seed=seed)
        partial = math.nan if control is None else partial_spearman(u, v, control).value
        found.append(
            (
                overlap.value, overlap.low, overlap.high, overlap.extrapolated,
                overlap.random_ties.value, partial,
            )
        )  # fmt: skip
    return dict(zip(_NOTHING, np.mean(found, axis=0).tolist(), strict=True))


def _mean(scores: ScoreSet, runs: tuple[str, ...]) -> Vector:
    """Mean scores over these runs; over all runs, if ``runs`` is empty."""
    rows = [scores.runs.index(run) for run in runs] or slice(None)
    return mean_over_runs(scores.scores[rows])
