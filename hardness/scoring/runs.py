"""Scores of one run from its recorded dynamics."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int, Shaped

from hardness.dynamics.folder import ROW_GROUP, Dynamics
from hardness.metrics.registry import METRICS, Metric

# Number of samples that are read at once, over all epochs.
BLOCK = 4 * ROW_GROUP
# Column that says which model scored a sample, if a run has several models.
FOLD = "fold"
# Inputs that exist without recorded signals: from the samples, the dataset and the epochs.
GIVEN = frozenset({"labels", "n_classes", "lr"})


def scorable(
    keys: Iterable[str], signals: Iterable[str], scope: Literal["run", "seeds"] = "run"
) -> list[str]:
    """Metrics of one scope whose inputs are among a run's signals.

    Args:
        keys: Keys of ``METRICS``.
        signals: Names of signals in the run's manifest.
        scope: Scope of the wanted metrics.
    """
    have = {*signals, *GIVEN}
    return [k for k in keys if METRICS[k].scope == scope and have.issuperset(METRICS[k].signals)]


def score_run(dynamics: Dynamics, keys: Iterable[str], *, n_classes: int) -> pd.DataFrame:
    """Raw scores of one run: one row per sample, one float64 column per metric, flags as booleans.

    If several models scored the samples, an integer column ``fold`` says which. Metrics that read
    only per-epoch signals look at one sample at a time, so they are computed in blocks. Metrics
    that read an embedding see all samples. To save memory, metrics with the same signals are
    computed together, and only those signals are in memory at that time.

    Args:
        dynamics: The run.
        keys: Keys of metrics, from ``scorable``.
        n_classes: Number of classes in the dataset.

    Raises:
        Damaged: If a file of the run does not match its manifest.
    """
    snapshots = dynamics.snapshots()
    samples = dynamics.samples
    metrics = [METRICS[key] for key in keys]
    given: dict[str, Any] = {"labels": samples["label"].to_numpy(), "n_classes": n_classes}
    if any("lr" in m.signals for m in metrics):
        given["lr"] = dynamics.summaries("lr")
    whole = [m for m in metrics if m.whole or {*m.signals} & {*snapshots}]
    by_block = [m for m in metrics if m not in whole]
    rows = dynamics.manifest.rows
    found: dict[str, np.ndarray] = {}
    for names, alike in _by_signals(by_block, dynamics, given.keys()):
        for first in range(0, rows, BLOCK):
            last = min(first + BLOCK, rows)
            inputs = {**given, "labels": given["labels"][first:last]}
            read = dynamics.signals(names, (first, last), last_epoch=_last_epoch(alike))
            block = _columns(alike, inputs | read)
            for name, values in block.items():
                found.setdefault(name, np.empty(rows, values.dtype))[first:last] = values
    for names, alike in _by_signals(whole, dynamics, given.keys() | snapshots.keys()):
        read = dynamics.signals(names, last_epoch=_last_epoch(alike))
        found |= _columns(alike, given | snapshots | read)
    order = (name for m in (*by_block, *whole) for name in (m.key, _flag(m)) if name in found)
    columns = {name: found[name] for name in order}
    fold = {FOLD: snapshots[FOLD]} if FOLD in snapshots else {}
    return pd.DataFrame({"sample_id": samples["sample_id"], **fold, **columns})


def score_ensemble(runs: Sequence[Dynamics], keys: Iterable[str]) -> pd.DataFrame:
    """Raw scores of metrics of scope ``seeds``: ``sample_id`` and one column per metric.

    Args:
        runs: Members of an ensemble: runs of one configuration with different seeds.
        keys: Keys of metrics of scope ``seeds`` whose signals all runs kept from the last epoch.

    Raises:
        Damaged: If a file of a run does not match its manifest.
        ValueError: If there are too few members, or their samples differ.
    """
    ids = [run.samples["sample_id"].to_numpy() for run in runs]
    if any(not np.array_equal(ids[0], other) for other in ids[1:]):
        raise ValueError("expected the same samples in every run of an ensemble; got others")
    metrics = [METRICS[key] for key in keys]
    kept = [run.snapshots() for run in runs]
    blocks = []
    for first in range(0, len(ids[0]), BLOCK):
        rows = slice(first, first + BLOCK)
        names = {signal for m in metrics for signal in m.signals}
        inputs = {name: np.stack([arrays[name][rows] for arrays in kept]) for name in sorted(names)}
        blocks.append(_columns(metrics, inputs))
    columns = {m.key: np.concatenate([b[m.key] for b in blocks]) for m in metrics}
    return pd.DataFrame({"sample_id": ids[0], **columns})


def score_folder(folder: Path | str, keys: Iterable[str] | None = None) -> pd.DataFrame:
    """Raw scores of one run from its folder, for example one that a ``Recorder`` wrote.

    Args:
        folder: Folder of a finished run.
        keys: Keys of ``METRICS``; all, if left out. A metric is skipped if the run did not record
            its signals.

    Returns:
        One row per sample: ``sample_id``, one column per metric, flags. Hardness is
        ``METRICS[key].sign`` times a column.

    Raises:
        Damaged: If the run is not finished, or a file does not match its manifest.

    Example:
        In a notebook::

            scores = score_folder("runs/seed-0")
            scores.nsmallest(20, "aum.train")
    """
    dynamics = Dynamics(Path(folder))
    found = scorable(METRICS if keys is None else keys, dynamics.manifest.signals)
    return score_run(dynamics, found, n_classes=len(dynamics.classes))


def rank_within_folds(
    scores: Shaped[np.ndarray, " samples"], fold: Int[np.ndarray, " samples"]
) -> Float64[np.ndarray, " samples"]:
    """Normalised ranks ``lower / (lower + higher)`` inside each fold, from 0 to 1.

    The models of different folds may differ in level and scale, so only the order within a fold
    is meaningful. ``lower`` and ``higher`` count the fold's samples with a smaller and a larger
    score, without ties. Where no scores tie, this is ``(rank - 1) / (n - 1)``. Mean ranks of ties
    depend on how many samples tie at the smallest score, as never forgotten ones do, so pooled
    ranks would tell folds apart instead of samples. If a whole fold ties, its ranks are 0.5; NaN
    stays NaN and does not count.

    Args:
        scores: Scores of one run.
        fold: Number of the model that scored each sample.

    Example:
        >>> rank_within_folds(np.array([5.0, 5.0, 7.0, 0.1, 0.2]), np.array([0, 0, 0, 1, 1]))
        array([0., 0., 1., 0., 1.])
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import, and few runs have folds

    ranks = np.full(len(scores), np.nan)
    for one in np.unique(fold):
        rows = np.flatnonzero((fold == one) & ~np.isnan(scores))
        lower = rankdata(scores[rows], method="min") - 1
        higher = len(rows) - rankdata(scores[rows], method="max")
        others = lower + higher
        ranks[rows] = np.where(others > 0, lower / np.maximum(others, 1), 0.5)
    return ranks


def _by_signals(
    metrics: Iterable[Metric], dynamics: Dynamics, at_hand: Collection[str]
) -> list[tuple[tuple[str, ...], list[Metric]]]:
    """Metrics grouped by the signals that must be read for them.

    The signal that says which samples an epoch saw is included if it was recorded.
    """
    groups: dict[tuple[str, ...], list[Metric]] = {}
    for one in metrics:
        seen = {one.seen} & {*dynamics.manifest.signals}
        read = {*one.signals, *(name for name in seen if name)}.difference(at_hand)
        groups.setdefault(tuple(sorted(read)), []).append(one)
    return list(groups.items())


def _last_epoch(metrics: Iterable[Metric]) -> bool:
    """Whether all metrics read only the last epoch, so that one file is enough."""
    return all(metric.last_epoch for metric in metrics)


def _columns(metrics: Iterable[Metric], inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for metric in metrics:
        columns[metric.key] = metric.score(inputs)
        flags = metric.flagged(inputs) if _flag(metric) else None
        if flags is not None:
            columns[_flag(metric)] = flags
    return columns


def _flag(metric: Metric) -> str:
    """Name of a metric's extra column; empty for variants and for metrics without one."""
    return metric.flag.__name__ if metric.flag is not None and "." not in metric.key else ""
