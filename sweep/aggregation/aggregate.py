"""An aggregation: all tables of a sweep's finished runs.

Work is parallel first over runs and ensembles (Ray Data), then over pairs of configuration and
metric (threads). Raw scores stay as published. ``hardness = sign * raw`` is computed in
``collected_scores``; if several models scored the samples of one run, it is the rank of this
product among the samples of the same model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import t

from hardness.files import atomic_write
from hardness.metrics.registry import METRICS
from sweep.aggregation.agreement_table import agreement_table
from sweep.aggregation.collected_scores import (
    ConfigurationScores,
    collect,
    join,
    name,
    pixel_scores,
)
from sweep.aggregation.stability_table import (
    beside_unplanted,
    measure,
    samples_table,
    stability_table,
    variance_table,
    without_columns,
)
from sweep.aggregation.truth_table import against_truths, truth_notes, truths_of, winners
from sweep.experiment.runs import shown_values
from sweep.experiment.spec import RunsSpec
from sweep.planning import statements
from sweep.store.mlflow_store import Store
from sweep.store.run_store import RunStore, Sweep

if TYPE_CHECKING:
    from hardness.data.datasets import Dataset

_SUMMARY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_accuracy_top5")


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """Result of an aggregation.

    Args:
        scores: Configurations with at least one finished run.
        pixels: Scores that need no training, metric key to ``[samples]``.
        stability: One row per configuration and metric.
        agreement: One row per pair of score sets.
        samples: One row per configuration and sample: mean, spread and rank of each metric.
        given: Imported hardness that is compared too, name to ``[samples]``.
        truth: One row per truth and metric; empty without truths.
        variance: One row per regimen and metric; empty if no regimen has two configurations.
        notes: Notes for readers of the tables.
    """

    scores: Sequence[ConfigurationScores]
    pixels: Mapping[str, np.ndarray]
    stability: pd.DataFrame
    agreement: pd.DataFrame
    samples: pd.DataFrame
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    truth: pd.DataFrame = field(default_factory=pd.DataFrame)
    variance: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: Sequence[str] = field(default_factory=list)


def aggregate(
    sweep: Sweep[RunsSpec],
    store: RunStore,
    folder: Path,
    *,
    dataset: "Dataset | None",
    given: Mapping[str, pd.Series] | None = None,
    given_truths: Mapping[str, pd.Series] | None = None,
    intervals: bool = True,
) -> Aggregate:
    """Scores, stability, agreement and truth of a sweep; needs a Ray session.

    Args:
        sweep: The sweep with its cells.
        store: The store of its runs.
        folder: The sweep's folder, which has the cache of scores.
        dataset: The dataset, for pixel metrics; None leaves them out, with a note.
        given: Imported hardness by ``sample_id``, compared like the sweep's own scores.
        given_truths: Imported truths by ``sample_id``, in addition to those of the runs.
        intervals: Whether intervals are bootstrapped: for truths, and for the shown agreement.
    """
    scores, notes = collect(sweep, store, folder)
    notes = [*sweep.notes, *notes]
    pixels: dict[str, np.ndarray] = {}
    if dataset is None:
        notes.append("pixel metrics and image figures are left out: the dataset is not available")
    elif scores:
        pixels = pixel_scores(sweep.spec.needs.metrics, dataset, folder)
    notes += _without_score(scores)
    joined = join(given or {}, scores[0].sample_ids, notes) if scores else {}
    failed = [c for c in sweep.cells if c.state == "failed" and c.trace]
    notes += [f"failed: {name(c)}: {c.trace.reason}" for c in failed if c.trace]
    notes += statements.statements(sweep.spec, sweep.proposals)
    reasons = sweep.spec.needs.approximated
    measured = measure(scores)
    samples = samples_table(scores, pixels, measured)
    measured = without_columns(measured)
    agreement = agreement_table(
        sweep, scores, pixels, joined, intervals=intervals, measured=measured
    )
    truths = truths_of(sweep, store, scores, given_truths or {}, notes)
    truth = against_truths(sweep, scores, pixels, joined, truths.by_name, intervals=intervals)
    notes += [*truth_notes(truth), *winners(sweep, scores, pixels, joined, truths.by_name)]
    stable = beside_unplanted(stability_table(scores, measured), scores, truths)
    return Aggregate(
        scores=scores,
        pixels=pixels,
        stability=marked(stable, reasons),
        agreement=marked(agreement, reasons),
        samples=samples,
        given=joined,
        truth=marked(truth, reasons),
        variance=marked(variance_table(scores), reasons),
        notes=notes,
    )


def marked(table: pd.DataFrame, reasons: Mapping[str, str]) -> pd.DataFrame:
    """A table of metrics with new columns that say how a metric is approximated.

    Args:
        table: A table with the column ``metric``, or ``metric_left`` and ``metric_right``.
        reasons: How a metric is approximated, by metric key; exact metrics are not in it.
    """
    columns = [c for c in ("metric", "metric_left", "metric_right") if c in table]
    why = {
        column.replace("metric", "approximated"): [reasons.get(key, "") for key in table[column]]
        for column in columns
    }
    return table.assign(**why)


def write(result: Aggregate, folder: Path) -> list[Path]:
    """Write the tables and notes into ``folder``, each file completely or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    sometimes = {"truth.csv": result.truth, "variance.csv": result.variance}
    tables = {
        "samples.parquet": result.samples,
        "stability.csv": result.stability,
        "agreement.csv": result.agreement,
        **{file: table for file, table in sometimes.items() if not table.empty},
        "notes.csv": pd.DataFrame({"note": [*result.notes]}),
    }
    written = []
    for file in sometimes:  # an older file may be about truths that are no longer given
        (folder / file).unlink(missing_ok=True)
    for file, table in tables.items():
        target = folder / file
        with atomic_write(target) as path:
            if file.endswith(".parquet"):
                table.to_parquet(path, index=False)
            else:
                table.to_csv(path, index=False)
        written.append(target)
    return written


def publish(sweep: Sweep[RunsSpec], store: Store, result: Aggregate, folder: Path) -> None:
    """Log tables and figures to the aggregate run, and one value per metric to parent runs."""
    run = store.aggregate_run()
    store.upload_folder(run, folder, skip={"scores"})
    store.finish(run)
    parents = {k.configuration.configuration_id: k.tracking_run for k in store.configurations()}
    for one in result.scores:
        configuration_id = one.configuration.configuration_id
        mine = result.stability[result.stability["configuration_id"] == configuration_id]
        numbers = _over_seeds(sweep, one)
        for metric, value in zip(mine["metric"], mine["spearman_pair_mean"], strict=True):
            if "." not in metric and math.isfinite(value):
                numbers[f"stability/{metric}"] = value
        if numbers:
            store.log_metrics(parents[configuration_id], numbers)
        if one.missing:
            store.set_tags(parents[configuration_id], {"missing_seeds": one.missing_seeds[:4000]})


def _over_seeds(sweep: Sweep[RunsSpec], one: ConfigurationScores) -> dict[str, float]:
    """Mean, spread and 95 % t interval over seeds, from the last summary of each run."""
    traces = {c.run.run_id: c.trace for c in sweep.cells if c.trace}
    kept = [traces[run].objectives for run in one.runs]
    found: dict[str, float] = {"seeds": float(len(kept))}
    for metric in _SUMMARY:
        values = np.array([k[metric] for k in kept if metric in k])
        if len(values) == 0:
            continue
        found[f"{metric}_mean"] = float(values.mean())
        if len(values) > 1:
            spread = float(values.std(ddof=1))
            half = float(t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
            found[f"{metric}_std"] = spread
            found[f"{metric}_low"] = found[f"{metric}_mean"] - half
            found[f"{metric}_high"] = found[f"{metric}_mean"] + half
    return found


def _without_score(scores: Sequence[ConfigurationScores]) -> list[str]:
    """Notes about metrics without a score for more than 1 % of the samples, with the reason."""
    notes = []
    for one in scores:
        groups: dict[tuple[int, str], list[str]] = {}
        for key, raw in one.raw.items():
            count = int(np.isnan(raw).any(axis=0).sum())
            if count > len(one.sample_ids) / 100:
                groups.setdefault((count, METRICS[key].undefined), []).append(key)
        which = " ".join((one.configuration.regimen, shown_values(one.parameters))).rstrip()
        notes += [
            f"{which}: no score for {count} of {len(one.sample_ids)} samples by {', '.join(keys)}"
            + (f" ({why})" if why else "")
            for (count, why), keys in groups.items()
        ]
    return notes
