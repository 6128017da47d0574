"""The table of agreement between scores."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hardness.comparison.agreement_details import with_details
from hardness.comparison.agreement_table import agreement_of_pairs
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.pairwise import pairwise_agreement
from hardness.comparison.supervised_reference import REFERENCE_CLUSTERS, supervised_reference
from sweep.aggregation.collected_scores import ConfigurationScores, best_of_each_regimen
from sweep.aggregation.score_sets import about_without_runs, score_sets
from sweep.aggregation.stability_table import Measured
from sweep.experiment.spec import RunsSpec
from sweep.store.run_store import Sweep

REFERENCE = "supervised_reference"
PAIRS_SHOWN = 20  # if the sweep has no reference
MEMBERS = tuple(member for cluster in REFERENCE_CLUSTERS for member in cluster)


def agreement_table(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray] | None = None,
    *,
    intervals: bool,
    keys: Sequence[str] | None = None,
    measured: Mapping[str, Mapping[str, Measured]] | None = None,
    truths: Mapping[str, np.ndarray] | None = None,
    control: np.ndarray | None = None,
    pairwise: bool = False,
) -> pd.DataFrame:
    """Agreement of every metric with every other and with the supervised reference.

    Each regimen is represented by its best configuration, by its own objective. Variants of a
    metric (dotted keys) are left out unless ``keys`` has them. Every pair has point estimates;
    only the rows of ``detailed`` have Kendall's tau and intervals.

    Args:
        sweep: The sweep; its spec says which objectives are maximised.
        scores: All configurations.
        pixels: Scores of the images, metric key to ``[samples]``.
        given: Imported hardness, name to ``[samples]``.
        intervals: Whether intervals are bootstrapped.
        keys: Score keys such as ``aum`` or ``msd_mean.contrastive``; all, if left out.
        measured: Result of ``measure(scores)``; if left out, reliability is computed again.
        truths: Truths to compare with by rank correlation, name to ``[samples]``.
        control: Entropy of the images, ``[samples]``, for the partial correlation.
        pairwise: Whether every row gets Kendall's tau, intervals, rank-biased overlap and the
            partial correlation. These are computed pair by pair.
    """
    best = best_of_each_regimen(sweep, scores)
    sets, about = score_sets(best, pixels, given or {}, keys, measured or {})
    for one, values in (truths or {}).items():
        sets.append(ScoreSet(name=one, scores=values[None], runs=()))
        about[one] = about_without_runs(one, "truth", "")
    pairs = [*itertools.combinations(range(len(sets)), 2)]
    supervised = next((s for s in best if s.configuration.regimen == "supervised"), None)
    if supervised is not None and {*MEMBERS} <= supervised.raw.keys():
        pairs += _pairs_with_reference(supervised, sets, about)
    if not pairs:
        return pd.DataFrame()
    sets, pairs = _on_common_units(sets, pairs)
    labels = scores[0].labels
    table = agreement_of_pairs(sets, pairs, labels)
    rows = range(len(pairs)) if pairwise else detailed(table)
    table = with_details(table, rows, sets, pairs, labels, draws=1000 if intervals else 0)
    if pairwise:
        further = pairwise_agreement(sets, pairs, scores[0].sample_ids, control=control)
        table = pd.concat([table, further], axis=1)
    for side in ("left", "right"):
        for column in ("metric", "family", "labels_used", "configuration_id", "missing_seeds"):
            table[f"{column}_{side}"] = [about[n][column] for n in table[side]]
    return table


def detailed(table: pd.DataFrame) -> list[int]:
    """Rows of an agreement table that a terminal shows.

    These are the rows with the supervised reference, or without one the pairs that agree best.

    Args:
        table: A table with the columns ``right`` and ``spearman``, its rows numbered from 0.
    """
    against = table["right"].str.startswith(REFERENCE)
    if against.any():
        return table.index[against].tolist()
    return table["spearman"].nlargest(PAIRS_SHOWN).index.tolist()


def _pairs_with_reference(
    supervised: ConfigurationScores, sets: list[ScoreSet], about: dict[str, dict[str, str]]
) -> list[tuple[int, int]]:
    """Pairs of every score set with the reference, which is added to ``sets`` and ``about``."""
    hardness = {k: supervised.hardness(k) for k in MEMBERS}
    # A metric of the reference is compared with the reference without this metric's cluster.
    rests = {
        member: rest
        for cluster in REFERENCE_CLUSTERS
        for rest in [supervised_reference(hardness, without=cluster[0])]
        for member in cluster
    }
    whole = supervised_reference(hardness)
    # A variant such as aum.train belongs to the cluster of its metric.
    metrics = [about[one.name]["metric"].partition(".")[0] for one in sets]
    places: dict[str, int] = {}
    pairs = []
    for left in sorted(range(len(metrics)), key=lambda place: metrics[place] in MEMBERS):
        metric = metrics[left]
        right = f"{REFERENCE} without {metric}" if metric in MEMBERS else REFERENCE
        if right not in places:
            places[right] = len(sets)
            reference = rests.get(metric, whole)
            sets.append(ScoreSet(name=right, scores=reference, runs=supervised.runs))
            about[right] = {
                "metric": REFERENCE,
                "family": "supervised",
                "labels_used": "own",
                "configuration_id": supervised.configuration.configuration_id,
                "missing_seeds": supervised.missing_seeds,
            }
        pairs.append((left, places[right]))
    return pairs


def _on_common_units(
    sets: Sequence[ScoreSet], pairs: Sequence[tuple[int, int]]
) -> tuple[list[ScoreSet], list[tuple[int, int]]]:
    """Average the runs of a set by ensemble if the other set of a pair has one row per ensemble.

    Both sets then have one row per ensemble, and two disjoint halves of the rows share no run.
    """
    sets = list(sets)
    places: dict[tuple[int, tuple[str, ...]], int] = {}

    def meet(place: int, other: int) -> int:
        mine, units = sets[place].runs, sets[other].runs
        groups = [unit.split("+") for unit in units]
        if mine == units or not units or not all({*mine}.issuperset(group) for group in groups):
            return place
        if (place, units) not in places:
            rows = [[mine.index(run) for run in group] for group in groups]
            means = np.stack([mean_over_runs(sets[place].scores[row]) for row in rows])
            places[place, units] = len(sets)
            sets.append(ScoreSet(name=sets[place].name, scores=means, runs=units))
        return places[place, units]

    return sets, [(meet(left, right), meet(right, left)) for left, right in pairs]
