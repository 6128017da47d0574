"""Ranks of means over disjoint halves of runs, shared by many pairs of metrics."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from hardness.comparison.correlation import Labels
from hardness.comparison.disjoint_runs import ScoreSet, halves_of_runs
from hardness.comparison.estimate import Estimate
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.ranks import (
    FEWEST_SAMPLES,
    ascending_order,
    centred_ranks,
    class_codes,
    topk_borders,
)
from hardness.comparison.reliability import spearman_brown
from hardness.comparison.stability import reliability_of_one
from hardness.shapes import PerSample, check_axes
from hardness.threads import in_threads

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
Split = tuple[tuple[str, ...], ...]  # runs of both sides, or once if they are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Correlation between single runs of a set, pooled and within class."""

    pooled: Estimate
    within: Estimate

    def at(self, runs: int) -> tuple[float, float]:
        """Reliabilities of a mean over ``runs`` runs; 1 for no runs, NaN unless positive."""
        if not runs:
            return 1.0, 1.0
        means = (float(spearman_brown(r_1.value, runs)) for r_1 in (self.pooled, self.within))
        pooled, within = (r_m if r_m > 0 else math.nan for r_m in means)
        return pooled, within


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Pairs with the same ids and shared runs, so that the mean of each half is ranked once."""

    places: list[int]  # positions of these pairs among all pairs
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
        """Disjoint halves of the shared runs; if no run is shared, all runs of each set."""
        return halves_of_runs(self.shared, most, seed) or [((),)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranks:
    """Centred ranks of each set's mean over the runs of each slot; a split has one or two slots.

    Ranks are multiples of 1/2, which float32 holds exactly up to 8 million samples.
    """

    centred: Float[np.ndarray, "sets slots kept"]
    codes: Integer[np.ndarray, " kept"]
    borders: Float[np.ndarray, "sets slots tops"]  # one for each of ``TOPS``

    def ways(self) -> list[tuple[int, int]]:
        """Slots of left and right: both assignments for each split; one for sets without splits."""
        firsts = range(0, self.centred.shape[1] - 1, 2)
        return [way for a in firsts for way in ((a, a + 1), (a + 1, a))] or [(0, 0)]


def groups_of_pairs(
    sets: Sequence[ScoreSet], pairs: Sequence[tuple[int, int]], labels: Labels
) -> list[Group]:
    """Pairs grouped by ids and shared runs."""
    # Some sets are identical under several names, such as the reference without one metric of a
    # cluster and without another. The first of them is used for all.
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
            Group(
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


def ranks_of_splits(group: Group, slots: Sequence[tuple[str, ...]]) -> tuple[Ranks, Ranks]:
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
        Ranks(centred=pooled, codes=np.zeros_like(codes), borders=borders),
        Ranks(centred=within, codes=codes, borders=borders),
    )


def check_sets(sets: Sequence[ScoreSet], labels: PerSample, draws: int, splits: int) -> None:
    """Refuse sets that do not fit the labels, and numbers of draws or splits that are too small."""
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


def reliability(scores: ScoreSet, labels: Labels) -> Reliability:
    """Correlation between single runs of a set; 1 for a metric without randomness."""
    if not scores.runs:
        return Reliability(pooled=Estimate(value=1.0), within=Estimate(value=1.0))
    pooled, within = scores.reliability or reliability_of_one(scores.scores, labels)
    return Reliability(pooled=pooled, within=within)


def reasons(
    group: Group,
    own: Sequence[Reliability],
    names: Sequence[tuple[str, str]],
    constant: Bool[np.ndarray, " sets"],
    points: Mapping[str, Float[np.ndarray, " pairs"]],
) -> list[str]:
    """Why values of each pair are missing; empty if none are."""
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
