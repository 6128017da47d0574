"""The score sets that tables compare, by name."""

from collections.abc import Mapping, Sequence

import numpy as np

from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.mean_scores import mean_over_runs
from hardness.metrics.registry import METRICS, labels_used
from sweep.aggregation.collected_scores import (
    CONTROL,
    ConfigurationScores,
    best_of_each_regimen,
    headline,
)
from sweep.aggregation.stability_table import Measured
from sweep.experiment.spec import RunsSpec
from sweep.store.run_store import Sweep


def mean_hardness(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    keys: Sequence[str],
) -> dict[str, np.ndarray]:
    """Mean hardness over runs of the scores ``keys``, by full score key; see ``score_keys``."""
    sets, _ = score_sets(best_of_each_regimen(sweep, scores), pixels, {}, keys, {})
    return {one.name: mean_over_runs(one.scores) for one in sets}


def score_sets(
    best: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    keys: Sequence[str] | None,
    measured: Mapping[str, Mapping[str, Measured]],
) -> tuple[list[ScoreSet], dict[str, dict[str, str]]]:
    """The score sets, and what tables say about each, by name."""
    sets, about = [], {}
    for one in best:
        regimen, shown = one.configuration.regimen, headline(one.raw)
        mine = measured.get(one.configuration.configuration_id, {})
        for key in one.raw:
            score_key = f"{key}.{regimen}"
            wanted = key in shown if keys is None else bool({key, score_key} & {*keys})
            if wanted:
                found = mine[key].stability if key in mine else None
                sets.append(one.score_set(key, score_key, found))
                about[score_key] = {
                    "metric": key,
                    "family": METRICS[key].family,
                    "labels_used": labels_used(METRICS[key], regimen),
                    "configuration_id": one.configuration.configuration_id,
                    "missing_seeds": one.missing_seeds,
                }
    for key, raw in pixels.items():
        if "." not in key if keys is None else key in keys:
            sets.append(ScoreSet(name=key, scores=METRICS[key].sign * raw[None], runs=()))
            about[key] = about_without_runs(key, METRICS[key].family, METRICS[key].labels_used)
    for name_given, hardness in given.items():
        if keys is None or name_given in keys:
            sets.append(ScoreSet(name=name_given, scores=hardness[None], runs=()))
            about[name_given] = about_without_runs(name_given, "given", "unknown")
    return sets, about


def about_without_runs(name: str, family: str, labels: str) -> dict[str, str]:
    """What tables say about a score set that comes from no run."""
    return {
        "metric": name,
        "family": family,
        "labels_used": labels,
        "configuration_id": "",
        "missing_seeds": "",
    }


def control_scores(pixels: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    """Name and scores of the control of a partial correlation; None if it was not scored."""
    return (CONTROL, pixels[CONTROL]) if CONTROL in pixels else None
