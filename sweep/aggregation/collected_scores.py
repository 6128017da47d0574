"""Scores of all finished runs, by configuration."""

import dataclasses
import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.stability import Stability
from hardness.dynamics.folder import SPEC
from hardness.metrics.disagreement import ensembles
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import FOLD, rank_within_folds, scorable
from sweep.errors import Mistake
from sweep.experiment.plugins import Plugin
from sweep.experiment.runs import Cell, Configuration, Proposal
from sweep.experiment.spec import RunsSpec
from sweep.scoring import cache, memory
from sweep.scoring.worker import reduce_runs, to_bytes, version
from sweep.store.run_store import RunStore, Sweep

if TYPE_CHECKING:
    from hardness.data.datasets import Dataset

CONTROL = "image_entropy"
_JOIN = "+".join


@dataclass(frozen=True, kw_only=True)
class ConfigurationScores:
    """Scores of one configuration's finished runs.

    Args:
        configuration: The configuration.
        parameters: Its searched values, by parameter.
        seeds: Seeds of the finished runs, in the order of the rows of every array.
        runs: Run ids, in the same order.
        sample_ids: Sample ids, in the order of the columns of every array.
        labels: Given class of every sample.
        raw: Raw scores, metric key to ``[runs, samples]``, or to ``[ensembles, samples]`` for
            metrics of scope ``seeds``.
        flags: Flags of samples, name to ``[runs, samples]`` booleans.
        missing: Seeds without scores, each with the reason.
        objective: Mean over the runs of the value that the search optimises.
        folds: Number of the model that scored a sample, ``[runs, samples]``; None without folds.
        ensembles: Run ids of every ensemble; no run is in two ensembles.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    sample_ids: np.ndarray
    labels: np.ndarray
    raw: Mapping[str, np.ndarray]
    flags: Mapping[str, np.ndarray]
    missing: Mapping[int, str]
    objective: float
    folds: np.ndarray | None = None
    ensembles: tuple[tuple[str, ...], ...] = ()

    def score_set(self, key: str, name: str, found: Stability | None = None) -> ScoreSet:
        """Hardness by one metric as a score set, each row with its run id or ids.

        Args:
            key: Metric key.
            name: Name of the score set in tables.
            found: Stability of the metric, if it is known.
        """
        several = METRICS[key].scope == "seeds"
        runs = tuple(map(_JOIN, self.ensembles)) if several else self.runs
        known = None if found is None else found.reliability_of_one
        return ScoreSet(name=name, scores=self.hardness(key), runs=runs, reliability=known)

    def hardness(self, key: str) -> np.ndarray:
        """``sign * raw`` of one metric, ``[runs, samples]``; with folds, the rank within them."""
        # Positive raw scores are not copied, which would double the memory.
        signed = self.raw[key] if METRICS[key].sign == 1 else -self.raw[key]
        if self.folds is None:
            return signed
        return np.stack([rank_within_folds(*run) for run in zip(signed, self.folds, strict=True)])

    @property
    def missing_seeds(self) -> str:
        """The missing seeds with their reasons, as tables show them."""
        return "; ".join(f"seed {seed}: {why}" for seed, why in self.missing.items())


def collect(
    sweep: Sweep[RunsSpec], store: RunStore, folder: Path
) -> tuple[list[ConfigurationScores], list[str]]:
    """Scores of every finished run. Those missing in ``folder/scores`` are computed.

    Needs a Ray session. A run with damaged files is marked as failed in the store and counts as
    missing; the next ``sweep run`` trains it again.

    Args:
        sweep: The sweep with its cells.
        store: The store of its runs.
        folder: The sweep's folder, which has the cache of scores.

    Returns:
        The scores by configuration, and notes.
    """
    keys = sweep.spec.needs.metrics
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    done = [c for c in sweep.cells if c.state == "done" and c.trace]
    damaged = _score([[cell] for cell in done], keys, folder, store, sweep.spec.plugins)
    while True:
        whole = [c for c in done if c.run.run_id not in damaged]
        groups = [g for p in sweep.proposals for g in _ensembles(_of(p, whole), keys)]
        # Damage of a run with cached scores shows only here; then new ensembles are formed.
        further = _score(groups, keys, folder, store, sweep.spec.plugins)
        damaged |= further
        if not further:
            break
    found = []
    for proposal in sweep.proposals:
        cells = _of(proposal, sweep.cells)
        scores = _configuration_scores(proposal, cells, keys, folder, damaged)
        if scores is not None:
            found.append(_with_objective(scores, cells, sweep))
    lost = [f"{name(c)}: {damaged[c.run.run_id]}" for c in done if c.run.run_id in damaged]
    return found, [*lost, *_mixed(store, done)]


def name(cell: Cell) -> str:
    """Name of a cell in messages."""
    configuration = cell.run.configuration
    return f"{configuration.regimen} {configuration.configuration_id} seed {cell.run.seed}"


def pixel_scores(keys: Iterable[str], dataset: "Dataset", folder: Path) -> dict[str, np.ndarray]:
    """Raw scores of the metrics of scope ``pixels``. Those missing in the cache are computed.

    Args:
        keys: Metric keys; those of another scope are skipped.
        dataset: The dataset; its digest is part of the cache file's name.
        folder: The sweep's folder, which has the cache of scores.
    """
    wanted = [key for key in keys if needs_images([key])]
    path = folder / "scores" / f"pixels-{dataset.digest[:16]}.parquet"
    cached = cache.versions(path)
    todo = [key for key in wanted if cached.get(key) != version(key)]
    if todo:
        from hardness.scoring.images import score_images  # noqa: PLC0415 - imports torch

        table = pa.table(score_images(todo, dataset.train))
        path.parent.mkdir(parents=True, exist_ok=True)
        cache.merge(path, to_bytes(table, todo))
    scores = pq.read_table(path) if wanted else {}
    return {key: scores[key].to_numpy() for key in wanted}


def cached_control(spec: RunsSpec, folder: Path) -> np.ndarray | None:
    """The entropy of a sweep's images, ``[samples]``; None if the cache lacks it.

    Args:
        spec: The sweep's spec.
        folder: The sweep's folder, which has the cache of scores.
    """
    path = folder / "scores" / f"pixels-{(spec.dataset_digest or '')[:16]}.parquet"
    if cache.versions(path).get(CONTROL) != version(CONTROL):
        return None
    return pq.read_table(path, columns=[CONTROL])[CONTROL].to_numpy()


def needs_images(keys: Iterable[str]) -> bool:
    """Whether any of these metrics is computed from the images alone."""
    return any(key in METRICS and METRICS[key].scope == "pixels" for key in keys)


def headline(keys: Iterable[str]) -> list[str]:
    """Keys without variants, but a ``.train`` variant stays if its metric has no other key.

    Example:
        >>> headline(["aum", "aum.train", "cartography_confidence.train", "el2n.e10"])
        ['aum', 'cartography_confidence.train']
    """
    every = [*keys]
    return [
        k
        for k in every
        if "." not in k or (k.endswith(".train") and k.removesuffix(".train") not in every)
    ]


def join(
    given: Mapping[str, pd.Series], sample_ids: np.ndarray, notes: list[str]
) -> dict[str, np.ndarray]:
    """Imported values in the order of the runs' samples; NaN for samples without a value.

    Args:
        given: Imported values by ``sample_id``, by name.
        sample_ids: Sample ids of the runs.
        notes: List to which notes about samples on one side only are added.

    Raises:
        Mistake: If no sample is on both sides.
    """
    joined = {}
    for one, hardness in given.items():
        common = np.isin(sample_ids, hardness.index)
        if not common.any():
            raise Mistake(f"{one}: expected sample ids of these runs; got none of them")
        others = len(hardness) - np.count_nonzero(common)
        if others or not common.all():
            notes.append(
                f"{one} lacks {np.count_nonzero(~common)} of {len(common)} samples and has "
                f"{others} more"
            )
        joined[one] = hardness.reindex(sample_ids).to_numpy(dtype=np.float64)
    return joined


def score_keys(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
) -> list[str]:
    """Score keys that ``agreement_table`` accepts: metric keys, with and without the regimen."""
    regimens = {s.configuration.regimen: s for s in best_of_each_regimen(sweep, scores)}
    full = [f"{key}.{regimen}" for regimen, one in regimens.items() for key in one.raw]
    return sorted({*full, *(k.rpartition(".")[0] for k in full), *pixels})


def _of(proposal: Proposal, cells: Iterable[Cell]) -> list[Cell]:
    wanted = proposal.configuration.configuration_id
    return [c for c in cells if c.run.configuration.configuration_id == wanted]


def _ensembles(cells: Sequence[Cell], keys: Sequence[str]) -> list[list[Cell]]:
    """Disjoint groups of a configuration's finished runs, if a metric takes several runs."""
    able = [c for c in cells if c.trace and scorable(keys, c.trace.signals, "seeds")]
    return [[able[place] for place in places] for places in ensembles(len(able))]


def _score(
    groups: Sequence[Sequence[Cell]],
    keys: Sequence[str],
    folder: Path,
    store: RunStore,
    plugins: Sequence[Plugin],
) -> dict[str, str]:
    """Compute and cache missing scores of runs or ensembles; returns errors by run id."""
    damaged: dict[str, str] = {}
    tasks = [task for cells in groups if (task := cache.task(cells, keys, folder, store))]
    for result in _in_parallel(tasks, store, plugins):
        if result["error"]:
            damaged[result["run_id"]] = result["error"]
            store.fail(result["tracking_run"], result["error"], final=False)
        else:
            cache.merge(folder / "scores" / result["file"], result["scores"])
    return damaged


def _in_parallel(
    tasks: Sequence[dict[str, Any]], store: RunStore, plugins: Sequence[Plugin]
) -> Iterator[dict[str, Any]]:
    """Results of the tasks, in the order in which they end."""
    if tasks:
        work = partial(reduce_runs, address=store.address, plugins=plugins)
        found = ray.data.from_items(list(tasks), override_num_blocks=len(tasks)).map(work)
        yield from found.iter_rows()


def _configuration_scores(
    proposal: Proposal,
    cells: Sequence[Cell],
    keys: Sequence[str],
    folder: Path,
    damaged: Mapping[str, str],
) -> ConfigurationScores | None:
    missing = {
        c.run.seed: damaged.get(c.run.run_id) or (c.trace.reason if c.trace else "") or c.state
        for c in cells
        if c.state != "done" or c.run.run_id in damaged
    }
    done = [c for c in cells if c.run.seed not in missing]
    # Without a signal that some wanted metric reads, there are no scores.
    if not any(c.trace and scorable(keys, c.trace.signals) for c in done):
        return None
    groups = tuple(tuple(c.run.run_id for c in cells) for cells in _ensembles(done, keys))
    of_runs = _stacked([folder / "scores" / cache.file_of([c.run.run_id]) for c in done])
    of_groups = _stacked([folder / "scores" / cache.file_of(runs) for runs in groups])
    raw = {
        key: found[key]
        for key in keys
        for found in (of_groups if METRICS[key].scope == "seeds" else of_runs,)
        if key in found
    }
    return ConfigurationScores(
        configuration=proposal.configuration,
        parameters=proposal.parameters,
        seeds=tuple(c.run.seed for c in done),
        runs=tuple(c.run.run_id for c in done),
        sample_ids=of_runs["sample_id"][0],
        labels=of_runs["label"][0],
        raw=raw,
        flags={name: rows for name, rows in of_runs.items() if rows.dtype == bool},
        missing=missing,
        objective=math.nan,
        folds=of_runs.get(FOLD),
        ensembles=groups,
    )


def _stacked(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The columns that all files have, ``[files, samples]``; one file is read at a time."""
    names = [pq.read_schema(file).names for file in files]
    shared = [name for name in (names[0] if names else []) if all(name in other for other in names)]
    stacked: dict[str, np.ndarray] = {}
    for row, file in enumerate(files):
        table = pq.read_table(file, columns=shared)
        for name in shared:
            values = table[name].to_numpy()
            if name not in stacked:
                stacked[name] = np.empty((len(files), len(values)), values.dtype)
            stacked[name][row] = values
    pa.default_memory_pool().release_unused()
    memory.give_back()
    return stacked


def _with_objective(
    scores: ConfigurationScores, cells: Sequence[Cell], sweep: Sweep[RunsSpec]
) -> ConfigurationScores:
    metric = sweep.spec.regimens[scores.configuration.regimen].metric.name
    traces = [c.trace for c in cells if c.run.seed in scores.seeds and c.trace]
    values = [trace.objectives.get(metric, math.nan) for trace in traces]
    return dataclasses.replace(scores, objective=float(np.mean(values)))


def best_of_each_regimen(
    sweep: Sweep[RunsSpec], scores: Sequence[ConfigurationScores]
) -> list[ConfigurationScores]:
    """The best configuration of each regimen, by the regimen's own objective."""
    best: dict[str, ConfigurationScores] = {}
    for one in scores:
        regimen = one.configuration.regimen
        sign = 1 if sweep.spec.regimens[regimen].metric.goal == "maximize" else -1
        held = best.get(regimen)
        if held is None or sign * one.objective > sign * held.objective:
            best[regimen] = one
    return list(best.values())


def _mixed(store: RunStore, done: Sequence[Cell]) -> list[str]:
    """Notes about configurations whose runs come from different devices or versions."""
    notes = []
    groups: dict[str, set[str]] = {}
    for cell in done:
        assert cell.trace is not None
        spec = json.loads(store.read_text(cell.trace.tracking_run, SPEC))
        circumstances = json.dumps(
            {k: spec[k] for k in ("device", "cpu_capability", "versions")}, sort_keys=True
        )
        groups.setdefault(cell.run.configuration.configuration_id, set()).add(circumstances)
    for configuration_id, found in groups.items():
        if len(found) > 1:
            notes.append(
                f"configuration {configuration_id} mixes devices or versions: "
                + " and ".join(sorted(found))
            )
    return notes


def quiet() -> None:
    """Turn off the progress bars, logs and warnings of Ray Data."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    warnings.filterwarnings("ignore", module="ray")
