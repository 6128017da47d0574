"""Rank-biased overlap: agreement of two metrics with the most weight on the hardest samples."""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Integer

from hardness.comparison.correlation import Vector, paired
from hardness.comparison.estimate import Estimate, counted
from hardness.comparison.ranks import Number
from hardness.comparison.resampling import ends_of_halves
from hardness.shapes import PerSample

DEPTH = 0.02  # mean depth reached in the list, as a fraction of the samples
TIE_ORDERS = 20
LEAST_PERSISTENCE = 0.5

Places = Integer[np.ndarray, " samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBiasedOverlap:
    """Rank-biased overlap of two metrics.

    Args:
        value: Overlap with ties in the order of ids; NaN if it is undefined.
        extrapolated: Overlap with the agreement at the last depth continued beyond it.
        low: Lower end of the 95 % interval of ``value``; NaN without draws.
        high: Upper end of the same interval; NaN without draws.
        random_ties: Mean, smallest and largest ``value`` over random orders of ties; without ties,
            ``value`` itself.
        persistence: The p that was used.
        reason: Why the value is missing, and how many ids were left out.
    """

    value: float
    extrapolated: float = math.nan
    low: float = math.nan
    high: float = math.nan
    random_ties: Estimate = field(default_factory=lambda: Estimate(value=math.nan))
    persistence: float = math.nan
    reason: str = ""


def rbo_persistence(samples: int) -> float:
    """Default p of ``rbo`` for N samples: 1 - 1/(0.02 N), and at least 0.5.

    It puts 85 % of the weight on the hardest 2 %. A fixed p of 0.98, common for search results,
    would put 96 % on the first 100 samples, however large N is.

    Args:
        samples: Number N of samples in the rankings.

    Returns:
        At least 0.5 and below 1.

    Example:
        >>> rbo_persistence(50_000), rbo_persistence(60)
        (0.999, 0.5)
    """
    return max(LEAST_PERSISTENCE, 1 - 1 / max(DEPTH * samples, 1))


def rbo(
    x: PerSample,
    y: PerSample,
    *,
    persistence: Number | None = None,
    draws: int = 0,
    seed: int = 0,
) -> RankBiasedOverlap:
    """Rank-biased overlap ``(1 - p) sum_d p^(d-1) A_d``; A_d is the shared part of the hardest d.

    The sum over all N depths is at most 1 - p^N. The extrapolated form adds ``p^N A_N``, where A_N
    is 1, as both metrics rank all samples. Ties, frequent in metrics that count, are in the order
    of ids. That order is the same for both metrics and makes them agree by itself. So
    ``random_ties`` uses 20 random orders, drawn for each metric separately.

    Args:
        x: Hardness by one metric, by ascending id.
        y: Hardness by the other, same samples.
        persistence: Parameter p, from 0 to below 1; ``rbo_persistence``, if left out.
        draws: Number of random halves of the ids for an interval; 0 for none. Halves are drawn
            without replacement, since duplicates would agree by themselves. A p that was left out
            follows their size.
        seed: Seed of random orders and draws.

    Returns:
        Between 0 and 1; NaN with the reason if fewer than two ids have both scores, or if one
        score ties on all of them.

    Raises:
        ValueError: If ``persistence`` is out of its range.

    Example:
        >>> found = rbo(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]), persistence=0.5)
        >>> found.value, found.extrapolated  # agreement 1, 1/2 and 1 weighs 1/2, 1/4 and 1/8
        (0.75, 0.875)

    References:
        Webber, Moffat and Zobel, A similarity measure for indefinite rankings, ACM TOIS 2010,
        equations 4 and 23 (equal lengths). Their form for ties gives all tied samples one depth.
    """
    if persistence is not None and not 0 <= persistence < 1:
        raise ValueError(f"persistence: expected from 0 to below 1; got {persistence}")
    both, _, undefined, dropped = paired(x=x, y=y)
    samples = both.shape[1]
    reason = counted(Estimate(value=math.nan, reason=undefined), dropped).reason
    if undefined:
        return RankBiasedOverlap(value=math.nan, reason=reason)

    def overlap(rows: Float[np.ndarray, "2 some"]) -> float:
        p = rbo_persistence(rows.shape[1]) if persistence is None else float(persistence)
        return _overlap(_places(rows[0]), _places(rows[1]), p)

    p = rbo_persistence(samples) if persistence is None else float(persistence)
    value = overlap(both)
    low, high = ends_of_halves(overlap, both, draws=draws, seed=seed)
    return RankBiasedOverlap(
        value=value,
        extrapolated=value + p**samples,
        low=low,
        high=high,
        random_ties=_random_ties(both, value, p, seed),
        persistence=p,
        reason=reason,
    )


def _places(scores: Vector, order: Integer[np.ndarray, " samples"] | None = None) -> Places:
    """Place of each sample, 0 for the hardest; ties in the given order, by id if left out."""
    order = np.arange(len(scores)) if order is None else order
    places = np.empty(len(scores), dtype=np.int64)
    places[order[np.argsort(-scores[order], kind="stable")]] = np.arange(len(scores))
    return places


def _overlap(x: Places, y: Places, p: float) -> float:
    """Overlap of two lists: a sample is in both tops from the later of its two places on."""
    depths = np.arange(1, len(x) + 1)
    shared = np.cumsum(np.bincount(np.maximum(x, y), minlength=len(x)))
    return float((1 - p) * (p ** (depths - 1) @ (shared / depths)))


def _random_ties(
    both: Float[np.ndarray, "2 samples"], value: float, p: float, seed: int
) -> Estimate:
    if all(len(np.unique(row)) == len(row) for row in both):
        return Estimate(value=value, low=value, high=value)
    generator = np.random.default_rng((seed, 3))
    samples = both.shape[1]
    found = []
    for _ in range(TIE_ORDERS):
        x, y = (_places(row, generator.permutation(samples)) for row in both)
        found.append(_overlap(x, y, p))
    return Estimate(value=float(np.mean(found)), low=min(found), high=max(found))
