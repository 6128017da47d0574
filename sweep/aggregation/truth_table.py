"""The tables of scores against known truths."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.truth import paired_differences, truth_table
from hardness.comparison.truth_statistics import is_binary
from hardness.comparison.winner import winner
from hardness.metrics.registry import METRICS
from sweep.aggregation.collected_scores import (
    ConfigurationScores,
    best_of_each_regimen,
    join,
    score_keys,
)
from sweep.aggregation.score_sets import control_scores, score_sets
from sweep.aggregation.truths import INDEPENDENT_OF_IMAGES, Truths, of_run
from sweep.experiment.spec import RunsSpec
from sweep.store.run_store import RunStore, Sweep


def truths_of(
    sweep: Sweep[RunsSpec],
    store: RunStore,
    scores: Sequence[ConfigurationScores],
    given: Mapping[str, pd.Series],
    notes: list[str],
) -> Truths:
    """Truths of the samples: from the runs' own tables, and imported ones.

    Args:
        sweep: The sweep; all of its runs have the same truths.
        store: The store of its runs.
        scores: All configurations; the first sets the order of samples.
        given: Imported truths by ``sample_id``, by name.
        notes: List to which notes about missing samples and truths are added.
    """
    if not scores:
        return Truths()
    run, sample_ids = scores[0].runs[0], scores[0].sample_ids
    tracking_run = next(
        c.trace.tracking_run for c in sweep.cells if c.trace and c.run.run_id == run
    )
    own = of_run(store, tracking_run, sample_ids, notes)
    joined = join(given, sample_ids, notes)
    return dataclasses.replace(own, by_name={**own.by_name, **joined})


def against_truths(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
    *,
    intervals: bool,
    keys: Sequence[str] | None = None,
) -> pd.DataFrame:
    """How well the mean hardness of every metric, variants too, finds every truth.

    Each regimen is represented by its best configuration, by its own objective. The partial
    correlation with a graded truth holds the entropy of the image fixed, if that was scored.

    Args:
        sweep: The sweep; its spec says which objectives are maximised.
        scores: All configurations.
        pixels: Scores of the images, metric key to ``[samples]``.
        given: Imported hardness, name to ``[samples]``.
        truths: Truths, name to ``[samples]``.
        intervals: Whether intervals are bootstrapped.
        keys: Score keys; all, if left out.
    """
    sets, about = _sets_for_truths(sweep, scores, pixels, given, keys)
    if not sets or not truths:
        return pd.DataFrame()
    table = truth_table(
        {one.name: one.scores for one in sets},
        truths,
        scores[0].labels,
        control=control_scores(pixels),
        draws=1000 if intervals else 0,
    )
    said = pd.DataFrame([about[one] for one in table["score"]])
    said["measures"] = [_measures(key) for key in said["metric"]]
    return pd.concat([said, table], axis=1)


def differences_on_truths(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
    *,
    keys: Sequence[str],
) -> pd.DataFrame:
    """Paired differences on each truth: the statistic of the left metric minus the right one's.

    Args:
        sweep: The sweep; its spec says which objectives are maximised.
        scores: All configurations.
        pixels: Scores of the images, metric key to ``[samples]``.
        given: Imported hardness, name to ``[samples]``.
        truths: Truths, name to ``[samples]``.
        keys: Score keys of the metrics.
    """
    sets, _ = _sets_for_truths(sweep, scores, pixels, given, keys)
    control = control_scores(pixels)
    tables = [
        paired_differences(
            {one.name: one.scores for one in sets}, truth, scores[0].labels, control=control
        ).assign(truth=name, kind="binary" if is_binary(truth) else "graded")
        for name, truth in truths.items()
        if len(sets) > 1
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def winners(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
) -> list[str]:
    """Notes about the best score for each binary truth, judged on samples that did not choose it.

    The first is the best score that measures hardness, without variants. The second is the best of
    these that sees no labels.
    """
    sets, about = score_sets(best_of_each_regimen(sweep, scores), pixels, given, None, {})
    means = {
        one.name: mean_over_runs(one.scores)
        for one in sets
        if _measures(about[one.name]["metric"]) == "hardness"
    }
    blind = {n: score for n, score in means.items() if about[n]["labels_used"] == "none"}
    notes = []
    for name_of, truth in truths.items():
        if not is_binary(truth):
            continue
        for which, some in (("scores", means), ("scores that see no labels", blind)):
            found = winner(some, truth) if len(some) > 1 else None
            if found:
                notes.append(
                    f"{name_of}: best of {len(some)} {which} by AUROC is {found.name}; a winner "
                    f"reaches {found.value:.3f} on samples that did not choose it"
                )
    return notes


def truth_notes(table: pd.DataFrame) -> list[str]:
    """Notes about label-free scores that find symmetric label noise: a leak, or wrong metadata.

    This noise is drawn independently of the image, so the expected AUROC is 0.5.
    """
    if table.empty or "auroc_least" not in table:
        return []
    able = table[
        (table["truth"] == INDEPENDENT_OF_IMAGES)
        & (table["labels_used"] == "none")
        & ((table["auroc_least"] > 0.5) | (table["auroc_most"] < 0.5))  # noqa: PLR2004
    ]
    return [
        f"{row.score} sees no labels, yet tells {row.truth} apart (AUROC {row.auroc:.3f}, "
        f"simultaneous interval {row.auroc_least:.3f} to {row.auroc_most:.3f}): a leak of labels?"
        for row in able.itertuples()
    ]


def _sets_for_truths(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    keys: Sequence[str] | None,
) -> tuple[list[ScoreSet], dict[str, dict[str, str]]]:
    every = [*score_keys(sweep, scores, pixels), *given]
    best = best_of_each_regimen(sweep, scores)
    return score_sets(best, pixels, given, every if keys is None else keys, {})


def _measures(key: str) -> str:
    return METRICS[key].measures if key in METRICS else "hardness"
