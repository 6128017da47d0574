"""Scores of one metric over several runs, and splits of runs into disjoint halves."""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hardness.comparison.estimate import Estimate
from hardness.shapes import PerRun, of_runs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreSet:
    """One metric's hardness over the runs of one configuration.

    Args:
        name: Name of the metric in tables.
        scores: Hardness, one row per run.
        runs: Ids of the runs; empty, with a single row, for a metric without randomness.
        reliability: Correlation of single runs, pooled and within class, from ``stability`` of the
            same scores; computed when needed, if left out.

    Raises:
        ValueError: If rows and run ids do not match, an id repeats, or axes are wrong.
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
    """All ways to split the shared runs into two halves, or ``splits`` random ones if fewer."""
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
            places = set(range(runs)) - places  # equal halves: take the one with run 0
        if places not in chosen:
            chosen.append(places)
    return chosen
