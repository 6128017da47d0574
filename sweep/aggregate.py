"""Ray Data over finished runs: dynamics to scores, scores to stability and agreement.

The unit of parallel work is a run or an ensemble of runs, then a (configuration, metric); rows are
never shuffled. Raw scores stay as published, and ``hardness = sign * raw`` is formed here, once;
where several models scored one run's samples, it is the rank of that among the samples of the same
model.
"""

import dataclasses
import itertools
import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from scipy.stats import t

from hardness.agreement import (
    REFERENCE_CLUSTERS,
    ScoreSet,
    agreement_of_pairs,
    supervised_reference,
    with_details,
)
from hardness.dynamics import SPEC
from hardness.estimate import Estimate
from hardness.files import atomic_write
from hardness.metrics import METRICS, labels_used
from hardness.metrics.disagreement import ensembles
from hardness.pairwise import pairwise_agreement
from hardness.ranks import centred_ranks
from hardness.scoring import FOLD, rank_within_folds, scorable
from hardness.stability import (
    Stability,
    mean_over_runs,
    spearman_within_class_pair_mean,
    stability_and_mean_rank,
)
from hardness.threads import in_threads, one_blas_thread
from hardness.truth import paired_differences, truth_table, winner
from hardness.variance import variance_components
from hardness.weighted import is_binary
from sweep import arenas, planning, score_cache
from sweep.mistake import Mistake
from sweep.plugins import Plugin
from sweep.reduction import reduce_runs, to_bytes, version
from sweep.spec import Cell, Configuration, Proposal, RunsSpec, shown_values
from sweep.store import RunStore, Sweep
from sweep.tracking import Store
from sweep.truths import INDEPENDENT_OF_IMAGES, Truths, of_run

if TYPE_CHECKING:
    from hardness.datasets import Dataset

REFERENCE = "supervised_reference"
PAIRS_SHOWN = 20  # of a sweep without the reference
CONTROL = "image_entropy"
MEMBERS = tuple(member for cluster in REFERENCE_CLUSTERS for member in cluster)
_JOIN = "+".join
_ESTIMATES = [one.name for one in dataclasses.fields(Stability) if one.type is Estimate]
_SUMMARY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_accuracy_top5")


@dataclass(frozen=True, kw_only=True)
class ConfigurationScores:
    """Scores of one configuration's finished runs.

    Args:
        configuration: Which.
        parameters: The searched values that led to it.
        seeds: Of the runs, in the order of the rows of every array.
        runs: Their run ids.
        sample_ids: In the order of the columns.
        labels: Given class per sample.
        raw: Metric key to ``[runs, samples]``, or ``[ensembles, samples]`` for those that take
            several runs.
        flags: Flag's name to ``[runs, samples]`` booleans.
        missing: Seeds without scores, each with the reason.
        objective: Mean over the runs of what its search optimises.
        folds: ``[runs, samples]``, which model scored which sample; None where one scored all.
        ensembles: Run ids of each ensemble's members; no run is in two of them.
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
        """Hardness by one metric, each row with the id of its run or of its runs.

        Args:
            key: Of the metric.
            name: How tables call it.
            found: Its stability, if it is known.
        """
        several = METRICS[key].scope == "seeds"
        runs = tuple(map(_JOIN, self.ensembles)) if several else self.runs
        known = None if found is None else found.reliability_of_one
        return ScoreSet(name=name, scores=self.hardness(key), runs=runs, reliability=known)

    def hardness(self, key: str) -> np.ndarray:
        """``sign * raw`` of one metric, ``[runs, samples]``; with folds, its rank within them."""
        # The raw scores themselves where that is all: a copy of them would double the memory.
        signed = self.raw[key] if METRICS[key].sign == 1 else -self.raw[key]
        if self.folds is None:
            return signed
        return np.stack([rank_within_folds(*run) for run in zip(signed, self.folds, strict=True)])

    @property
    def missing_seeds(self) -> str:
        """The missing seeds and why, as every table shows them."""
        return "; ".join(f"seed {seed}: {why}" for seed, why in self.missing.items())


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric over the runs of a configuration, ranked once for all tables.

    Args:
        stability: Agreement of the runs.
        columns: Of the table of samples, by what follows the metric's name.
    """

    stability: Stability
    columns: Mapping[str, np.ndarray | float]


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """What an aggregation found.

    Args:
        scores: Configurations with at least one finished run.
        pixels: Scores that need no training, metric key to ``[samples]``.
        stability: One row a (configuration, metric).
        agreement: One row a pair of score sets.
        samples: One row a sample: mean, spread and rank of each metric.
        given: Hardness by others that joined the agreement, name to ``[samples]``.
        truth: One row a (truth, metric); empty without truths.
        variance: One row a (regimen, metric); empty where no regimen has two configurations.
        notes: What a reader of the tables has to know.
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


def collect(
    sweep: Sweep[RunsSpec], store: RunStore, folder: Path
) -> tuple[list[ConfigurationScores], list[str]]:
    """Scores of every finished run, computed where ``folder/scores`` lacks them.

    Needs a Ray session. A run whose files are damaged is marked so in the store, to be trained
    again by the next ``sweep run``, and named as missing.

    Args:
        sweep: As it stands.
        store: Where its runs are.
        folder: The sweep's own, for the cache of scores.

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
        # A run whose own scores are cached may show its damage only here; then others team up.
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
        sweep: As it stands.
        store: Where its runs are.
        folder: The sweep's own, for the cache of scores.
        dataset: For the metrics of the pixels; None leaves them out, with a note.
        given: Hardness by others, by ``sample_id``, that joins the agreement.
        given_truths: Truths by others, by ``sample_id``, beside those that the runs say.
        intervals: Also bootstrap the intervals of truth, and of the agreement that is shown.
    """
    scores, notes = collect(sweep, store, folder)
    notes = [*sweep.notes, *notes]
    pixels: dict[str, np.ndarray] = {}
    if dataset is None:
        notes.append("pixel baselines and image figures are left out: the dataset is not here")
    elif scores:
        pixels = pixel_scores(sweep.spec.needs.metrics, dataset, folder)
    notes += _without_score(scores)
    joined = join(given or {}, scores[0].sample_ids, notes) if scores else {}
    failed = [c for c in sweep.cells if c.state == "failed" and c.trace]
    notes += [f"failed: {name(c)}: {c.trace.reason}" for c in failed if c.trace]
    notes += planning.statements(sweep.spec, sweep.proposals)
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


def name(cell: Cell) -> str:
    """What a cell is called in messages."""
    configuration = cell.run.configuration
    return f"{configuration.regimen} {configuration.configuration_id} seed {cell.run.seed}"


def pixel_scores(keys: Iterable[str], dataset: "Dataset", folder: Path) -> dict[str, np.ndarray]:
    """Raw scores of the metrics of scope ``pixels``, computed where ``folder/scores`` lacks them.

    Args:
        keys: Of ``METRICS``; those of another scope are passed over.
        dataset: Whose digest names the cache.
        folder: The sweep's own.
    """
    wanted = [key for key in keys if needs_images([key])]
    path = folder / "scores" / f"pixels-{dataset.digest[:16]}.parquet"
    cached = score_cache.versions(path)
    todo = [key for key in wanted if cached.get(key) != version(key)]
    if todo:
        from hardness.image_scores import score_images  # noqa: PLC0415 - torch, for images alone

        table = pa.table(score_images(todo, dataset.train))
        path.parent.mkdir(parents=True, exist_ok=True)
        score_cache.merge(path, to_bytes(table, todo))
    scores = pq.read_table(path) if wanted else {}
    return {key: scores[key].to_numpy() for key in wanted}


def cached_control(spec: RunsSpec, folder: Path) -> np.ndarray | None:
    """The entropy of a sweep's images, if an aggregation has left it in the cache.

    Args:
        spec: Of the sweep.
        folder: Its own.
    """
    path = folder / "scores" / f"pixels-{(spec.dataset_digest or '')[:16]}.parquet"
    if score_cache.versions(path).get(CONTROL) != version(CONTROL):
        return None
    return pq.read_table(path, columns=[CONTROL])[CONTROL].to_numpy()


def needs_images(keys: Iterable[str]) -> bool:
    """Whether any of these metrics is computed from the images alone."""
    return any(key in METRICS and METRICS[key].scope == "pixels" for key in keys)


def measure(scores: Sequence[ConfigurationScores]) -> dict[str, dict[str, Measured]]:
    """Of each configuration, by its id, every metric; in threads.

    The scores are in this process already: to send them elsewhere takes as long as to rank them.
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
    """One row a (configuration, metric).

    Args:
        scores: All configurations.
        measured: What ``measure`` made of them; made here, if left out.
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
    """One row a (regimen, metric): shares of sample, sample by configuration, and seed.

    Of regimens with two configurations or more, over all of them that score the metric.

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
    """Every metric against every other and against the supervised reference.

    Of each regimen the configuration that is best by its own objective enters. Variants of a
    metric (dotted keys) stay out unless asked for. Every pair has point estimates; Kendall's tau
    and intervals belong to the rows that a terminal shows, see ``detailed``.

    Args:
        sweep: For the direction of each regimen's objective.
        scores: All configurations.
        pixels: Scores of the images.
        given: Hardness by others.
        intervals: Bootstrap them.
        keys: Score keys such as ``aum`` or ``msd_mean.contrastive``; all, if left out.
        measured: What ``measure`` made of the scores, if it did.
        truths: To be compared with as well, by rank correlation.
        control: The entropy of the images, for the partial correlation.
        pairwise: Every row gets Kendall's tau, intervals, rank-biased overlap and the partial
            correlation, which are made a pair at a time.
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

    These are the rows against the supervised reference. Without a reference, they are the pairs
    that agree best.

    Args:
        table: With the columns ``right`` and ``spearman``, its rows numbered from 0.
    """
    against = table["right"].str.startswith(REFERENCE)
    if against.any():
        return table.index[against].tolist()
    return table["spearman"].nlargest(PAIRS_SHOWN).index.tolist()


def _pairs_with_reference(
    supervised: ConfigurationScores, sets: list[ScoreSet], about: dict[str, dict[str, str]]
) -> list[tuple[int, int]]:
    """Pairs of every set with the reference, whose score sets are added to both collections."""
    hardness = {k: supervised.hardness(k) for k in MEMBERS}
    # A metric that is part of the reference meets what is left without its whole cluster.
    rests = {
        member: rest
        for cluster in REFERENCE_CLUSTERS
        for rest in [supervised_reference(hardness, without=cluster[0])]
        for member in cluster
    }
    whole = supervised_reference(hardness)
    # A variant such as aum.train belongs where its metric does.
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


def truths_of(
    sweep: Sweep[RunsSpec],
    store: RunStore,
    scores: Sequence[ConfigurationScores],
    given: Mapping[str, pd.Series],
    notes: list[str],
) -> Truths:
    """What is true of the samples: as the runs' own tables say, and by others.

    Args:
        sweep: Whose runs all have the same truths.
        store: Where they are.
        scores: All configurations, the first of which says the order of samples.
        given: By others, by ``sample_id``.
        notes: Where it is said what is missing.
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
    """Every metric, variants too, against every truth, by the mean hardness over runs.

    Of each regimen the configuration that is best by its own objective enters. The partial
    correlation with a graded truth holds the entropy of the image fixed where that was scored.

    Args:
        sweep: For the direction of each regimen's objective.
        scores: All configurations.
        pixels: Scores of the images.
        given: Hardness by others.
        truths: By name, ``[samples]``.
        intervals: Bootstrap them.
        keys: Score keys; all, if left out.
    """
    sets, about = _sets_for_truths(sweep, scores, pixels, given, keys)
    if not sets or not truths:
        return pd.DataFrame()
    table = truth_table(
        {one.name: one.scores for one in sets},
        truths,
        scores[0].labels,
        control=_control(pixels),
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
    """Of every two of the metrics, and of every truth, how much better the left one does.

    Args:
        sweep: As in ``against_truths``, like all that follows.
        scores: All configurations.
        pixels: Scores of the images.
        given: Hardness by others.
        truths: By name, ``[samples]``.
        keys: Score keys.
    """
    sets, _ = _sets_for_truths(sweep, scores, pixels, given, keys)
    control = _control(pixels)
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
    """A note a binary truth: which score ranks its positives best, on ids that did not choose it.

    Among those that measure hardness, without variants; then among those that see no labels.
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


def mean_hardness(
    sweep: Sweep[RunsSpec],
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    keys: Sequence[str],
) -> dict[str, np.ndarray]:
    """Mean over runs of chosen scores, by their full key; see ``score_keys``."""
    sets, _ = score_sets(best_of_each_regimen(sweep, scores), pixels, {}, keys, {})
    return {one.name: mean_over_runs(one.scores) for one in sets}


def truth_notes(table: pd.DataFrame) -> list[str]:
    """Scores that tell apart what no label-free score can: a leak, or a wrong ``labels_used``.

    Symmetric label noise is drawn without a look at the image, so that AUROC is 0.5 in expectation.
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


def beside_unplanted(
    table: pd.DataFrame, scores: Sequence[ConfigurationScores], truths: Truths
) -> pd.DataFrame:
    """The table of stability with the within-class value of the unplanted samples alone.

    What is planted is hard in every run, which alone makes runs agree.

    Args:
        table: From ``stability_table``.
        scores: All configurations, in its order.
        truths: Which samples are unplanted.
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


def marked(table: pd.DataFrame, reasons: Mapping[str, str]) -> pd.DataFrame:
    """A table of metrics that also says which of them are approximated, and how.

    Args:
        table: With columns ``metric``, or ``metric_left`` and ``metric_right``.
        reasons: Of the metrics that are.
    """
    columns = [c for c in ("metric", "metric_left", "metric_right") if c in table]
    why = {
        column.replace("metric", "approximated"): [reasons.get(key, "") for key in table[column]]
        for column in columns
    }
    return table.assign(**why)


def headline(keys: Iterable[str]) -> list[str]:
    """The keys that stand for their metrics: no variants, save where training's is all there is.

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
    """Hardness by others in the order of ours, NaN where they have none.

    Args:
        given: By ``sample_id``.
        sample_ids: Ours.
        notes: Where it is said how many samples are on one side alone.

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
    """Names that ``agreement_table`` takes: a metric's key, also with its regimen."""
    regimens = {s.configuration.regimen: s for s in best_of_each_regimen(sweep, scores)}
    full = [f"{key}.{regimen}" for regimen, one in regimens.items() for key in one.raw]
    return sorted({*full, *(k.rpartition(".")[0] for k in full), *pixels})


def samples_table(
    scores: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    measured: Mapping[str, Mapping[str, Measured]] | None = None,
) -> pd.DataFrame:
    """One row a (configuration, sample): mean and spread of raw over seeds, rank of hardness.

    Rank 1 is the hardest; equal scores share the mean of their ranks. ``mean_rank`` is the mean
    over runs of each run's own ``(rank - 0.5) / N``, near 1 for the hardest: of one scale for all
    metrics, so it may be mixed over configurations. A sample that any run has no score for has no
    mean.

    Args:
        scores: All configurations.
        pixels: Scores of the images.
        measured: What ``measure`` made of the scores; made here, if left out.
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
        return tables[0]  # as it is: in a large sweep two of it would not fit
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def write(result: Aggregate, folder: Path) -> list[Path]:
    """Write the tables and notes into ``folder``, each whole or not at all."""
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
    for file in sometimes:  # of truths that are no longer given, say
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
    """Log tables and figures to the sweep's aggregate run, and one number a metric to parents."""
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


def _of(proposal: Proposal, cells: Iterable[Cell]) -> list[Cell]:
    wanted = proposal.configuration.configuration_id
    return [c for c in cells if c.run.configuration.configuration_id == wanted]


def _ensembles(cells: Sequence[Cell], keys: Sequence[str]) -> list[list[Cell]]:
    """Finished runs of one configuration in groups that share none, if a metric takes several."""
    able = [c for c in cells if c.trace and scorable(keys, c.trace.signals, "seeds")]
    return [[able[place] for place in places] for places in ensembles(len(able))]


def _score(
    groups: Sequence[Sequence[Cell]],
    keys: Sequence[str],
    folder: Path,
    store: RunStore,
    plugins: Sequence[Plugin],
) -> dict[str, str]:
    """Score runs, or ensembles of them, where the cache lacks it; what is wrong, by run id."""
    damaged: dict[str, str] = {}
    tasks = [task for cells in groups if (task := score_cache.task(cells, keys, folder, store))]
    for result in _in_parallel(tasks, store, plugins):
        if result["error"]:
            damaged[result["run_id"]] = result["error"]
            store.fail(result["tracking_run"], result["error"], final=False)
        else:
            score_cache.merge(folder / "scores" / result["file"], result["scores"])
    return damaged


def _in_parallel(
    tasks: Sequence[dict[str, Any]], store: RunStore, plugins: Sequence[Plugin]
) -> Iterator[dict[str, Any]]:
    """What becomes of each task, one after another as they end."""
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
    # A regimen that records nothing that an asked metric reads has no scores.
    if not any(c.trace and scorable(keys, c.trace.signals) for c in done):
        return None
    groups = tuple(tuple(c.run.run_id for c in cells) for cells in _ensembles(done, keys))
    of_runs = _stacked([folder / "scores" / score_cache.file_of([c.run.run_id]) for c in done])
    of_groups = _stacked([folder / "scores" / score_cache.file_of(runs) for runs in groups])
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
    """Those columns that all files have, a row a file: read one by one into their places."""
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
    arenas.give_back()
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
    """Of each regimen the configuration that is best by its own objective."""
    best: dict[str, ConfigurationScores] = {}
    for one in scores:
        regimen = one.configuration.regimen
        sign = 1 if sweep.spec.regimens[regimen].metric.goal == "maximize" else -1
        held = best.get(regimen)
        if held is None or sign * one.objective > sign * held.objective:
            best[regimen] = one
    return list(best.values())


def score_sets(
    best: Sequence[ConfigurationScores],
    pixels: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray],
    keys: Sequence[str] | None,
    measured: Mapping[str, Mapping[str, Measured]],
) -> tuple[list[ScoreSet], dict[str, dict[str, str]]]:
    """Score sets by score key, and what the table says about each."""
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
    """What tables say of scores that no run made."""
    return {
        "metric": name,
        "family": family,
        "labels_used": labels,
        "configuration_id": "",
        "missing_seeds": "",
    }


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


def _control(pixels: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    """What a partial correlation holds fixed, where it was scored."""
    return (CONTROL, pixels[CONTROL]) if CONTROL in pixels else None


def _measures(key: str) -> str:
    return METRICS[key].measures if key in METRICS else "hardness"


def _on_common_units(
    sets: Sequence[ScoreSet], pairs: Sequence[tuple[int, int]]
) -> tuple[list[ScoreSet], list[tuple[int, int]]]:
    """Average a set's runs by ensemble where the other set of a pair has a value for each of these.

    Both then have one row for each ensemble, and halves of the ensembles share no run.
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
    """Stability alone, once the table of samples has the columns."""
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


def _over_seeds(sweep: Sweep[RunsSpec], one: ConfigurationScores) -> dict[str, float]:
    """Mean, spread and 95 % t-interval over seeds of each run's last summary."""
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
    """Name the metrics that leave out more than one sample in a hundred, and say when they do."""
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


def _mixed(store: RunStore, done: Sequence[Cell]) -> list[str]:
    """Say when runs of one configuration come from different devices or versions."""
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


def _rank(hardness: np.ndarray) -> np.ndarray:
    """Rank 1 for the hardest; NaN without a score."""
    kept = ~np.isnan(hardness)
    ranks = np.full(len(hardness), np.nan)
    ranks[kept] = centred_ranks(-hardness[kept]) + (np.count_nonzero(kept) + 1) / 2
    return ranks


def quiet() -> None:
    """Leave the terminal to our own tables."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    warnings.filterwarnings("ignore", module="ray")
