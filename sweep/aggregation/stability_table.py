"""The tables of stability, of variance and of samples."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hardness.comparison.estimate import Estimate
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.ranks import centred_ranks
from hardness.comparison.stability import (
    Stability,
    spearman_within_class_pair_mean,
    stability_and_mean_rank,
)
from hardness.comparison.variance import variance_components
from hardness.metrics.registry import METRICS, labels_used
from hardness.threads import in_threads, one_blas_thread
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.aggregation.truths import Truths
from sweep.experiment.runs import shown_values

_ESTIMATES = [one.name for one in dataclasses.fields(Stability) if one.type is Estimate]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric over the runs of a configuration, ranked once for all tables.

    Args:
        stability: Agreement of the runs.
        columns: Columns of the table of samples, by the suffix after the metric's name.
    """

    stability: Stability
    columns: Mapping[str, np.ndarray | float]


def measure(scores: Sequence[ConfigurationScores]) -> dict[str, dict[str, Measured]]:
    """Measure every metric of every configuration, by configuration id and metric key.

    Uses threads, because sending the scores to other processes takes as long as ranking them.
    """
    places = [(one, key) for one in scores for key in one.raw]
    with one_blas_thread():
        found = in_threads(lambda place: _measured(*place), places)
    measured: dict[str, dict[str, Measured]] = {}
    for (one, key), result in zip(places, found, strict=True):
        measured.setdefault(one.configuration.configuration_id, {})[key] = result
    return measured


def stability_table(
    scores: Sequence[ConfigurationScores],
    measured: Mapping[str, Mapping[str, Measured]] | None = None,
) -> pd.DataFrame:
    """The table of stability, one row per configuration and metric.

    Args:
        scores: All configurations.
        measured: Result of ``measure(scores)``; computed here if left out.
    """
    measured = measure(scores) if measured is None else measured
    return pd.DataFrame(
        [
            _stability_row(one, key, found.stability)
            for one in scores
            for key, found in measured[one.configuration.configuration_id].items()
        ]
    )


def variance_table(scores: Sequence[ConfigurationScores]) -> pd.DataFrame:
    """Variance shares: sample, sample by configuration, seed. One row per regimen and metric.

    A regimen needs two configurations that score the metric.

    Args:
        scores: All configurations.
    """
    regimens: dict[str, list[ConfigurationScores]] = {}
    for one in scores:
        regimens.setdefault(one.configuration.regimen, []).append(one)
    places = [
        (regimen, key, [one for one in mine if key in one.raw])
        for regimen, mine in regimens.items()
        for key in dict.fromkeys(key for one in mine for key in one.raw)
    ]
    places = [place for place in places if len(place[2]) > 1]
    found = in_threads(
        lambda place: variance_components([one.hardness(place[1]) for one in place[2]]), places
    )
    rows = [
        {
            "regimen": regimen,
            "metric": key,
            "family": METRICS[key].family,
            "labels_used": labels_used(METRICS[key], regimen),
            **{k: v for k, v in dataclasses.asdict(one).items() if k != "variances"},
        }
        for (regimen, key, _), one in zip(places, found, strict=True)
    ]
    return pd.DataFrame(rows)


def beside_unplanted(
    table: pd.DataFrame, scores: Sequence[ConfigurationScores], truths: Truths
) -> pd.DataFrame:
    """Add to the table of stability the within-class value of the unplanted samples alone.

    Planted samples are hard in every run, which by itself makes runs agree.

    Args:
        table: Result of ``stability_table(scores)``.
        scores: All configurations.
        truths: Truths with the mask of unplanted samples.
    """
    kept = truths.unplanted
    if kept is None or table.empty:
        return table
    ids = scores[0].sample_ids[kept]
    columns: dict[str, list[float]] = {"": [], "_low": [], "_high": []}
    for one in scores:
        here = np.isin(one.sample_ids, ids)
        for key in one.raw:
            found = spearman_within_class_pair_mean(one.hardness(key)[:, here], one.labels[here])
            for end, value in zip(columns, (found.value, found.low, found.high), strict=True):
                columns[end].append(value)
    name_of = "spearman_within_class_pair_mean_unplanted"
    place = [*table].index("kendall_w")
    for offset, (end, values) in enumerate(columns.items()):
        table.insert(place + offset, f"{name_of}{end}", values)
    return table


def samples_table(
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    measured: Mapping[str, Mapping[str, Measured]] | None = None,
) -> pd.DataFrame:
    """The table of samples, one row per configuration and sample.

    It has mean and spread of raw scores over seeds, and the rank of mean hardness: 1 is the
    hardest, equal scores share their mean rank. ``mean_rank`` is the mean over runs of
    ``(rank - 0.5) / N``, near 1 for the hardest. All metrics share this scale, so it may be
    averaged over configurations. A sample without a score in any one run has no mean.

    Args:
        scores: All configurations.
        pixels: Scores of the images, metric key to ``[samples]``.
        measured: Result of ``measure(scores)``; computed here if left out.
    """
    tables = []
    measured = measure(scores) if measured is None else measured
    for one in scores:
        columns: dict[str, Any] = {
            "configuration_id": one.configuration.configuration_id,
            "regimen": one.configuration.regimen,
            "sample_id": one.sample_ids,
            "label": one.labels,
        }
        for key, found in measured[one.configuration.configuration_id].items():
            columns |= {f"{key}{suffix}": values for suffix, values in found.columns.items()}
        for flag, values in one.flags.items():
            columns[flag] = values.mean(axis=0)
        for key, raw in pixels.items():
            columns[key] = raw
            columns[f"{key}.rank"] = _rank(METRICS[key].sign * raw)
        tables.append(pd.DataFrame(columns, copy=False))
    if len(tables) == 1:
        return tables[0]  # without a copy, which may not fit into memory
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _measured(one: ConfigurationScores, key: str) -> Measured:
    hardness, raw = one.hardness(key), one.raw[key]
    stability, mean_rank = stability_and_mean_rank(hardness, one.labels)
    columns = {
        "": mean_over_runs(raw),
        ".std": raw.std(axis=0) if len(raw) > 1 else math.nan,
        ".rank": _rank(mean_over_runs(hardness)),
        ".mean_rank": mean_rank,
    }
    return Measured(stability=stability, columns=columns)


def without_columns(
    measured: Mapping[str, Mapping[str, Measured]],
) -> dict[str, dict[str, Measured]]:
    """The measured stability without the columns, to save memory."""
    return {
        one: {key: dataclasses.replace(found, columns={}) for key, found in mine.items()}
        for one, mine in measured.items()
    }


def _stability_row(one: ConfigurationScores, key: str, found: Stability) -> dict[str, Any]:
    metric, regimen = METRICS[key], one.configuration.regimen
    row: dict[str, Any] = {
        "configuration_id": one.configuration.configuration_id,
        "regimen": regimen,
        "parameters": shown_values(one.parameters),
        "metric": key,
        "family": metric.family,
        "measures": metric.measures,
        "labels_used": labels_used(metric, regimen),
        "sign": metric.sign,
        "sign_origin": metric.sign_origin,
        "runs": found.runs,
        "missing_seeds": one.missing_seeds,
        "samples": found.samples,
        "dropped": found.dropped,
    }
    reasons = []
    if metric.scope == "seeds":
        reasons.append(f"a unit is an ensemble of {len(one.ensembles[0])} runs")
    for statistic in _ESTIMATES:
        estimate: Estimate = getattr(found, statistic)
        row |= {
            statistic: estimate.value,
            f"{statistic}_low": estimate.low,
            f"{statistic}_high": estimate.high,
        }
        reasons.append(estimate.reason)
    return {**row, "reason": "; ".join(dict.fromkeys(filter(None, reasons)))}


def _rank(hardness: np.ndarray) -> np.ndarray:
    """Ranks, 1 for the hardest; NaN for a sample without a score."""
    kept = ~np.isnan(hardness)
    ranks = np.full(len(hardness), np.nan)
    ranks[kept] = centred_ranks(-hardness[kept]) + (np.count_nonzero(kept) + 1) / 2
    return ranks
