"""Prune and retrain: arms made from a sweep's scores, and the table of their accuracies."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from hardness.comparison.truth_statistics import is_binary
from hardness.data.datasets import Dataset
from hardness.data.parts import Which, class_counts, digest_of, ranked_part, samples_in
from hardness.files import atomic_write
from hardness.training.optimization import batches
from sweep.aggregation import collected_scores, score_sets, truth_table
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.errors import Mistake, NoSuchSweep, unknown_metric
from sweep.execution.driver import load
from sweep.experiment.runs import Configuration, Proposal
from sweep.experiment.spec import SweepSpec
from sweep.store.mlflow_store import Store
from sweep.store.run_store import Sweep

ACCURACY = "val_accuracy"
_ENDS: tuple[Which, ...] = ("hardest", "easiest")
_LIKE = {"hardest": "random like hardest", "easiest": "random like easiest"}
_FEWEST_SEEDS = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep that trains the arms of a pruning.

    Args:
        content: Its experiment file, as a store keeps it.
        dataset: Its dataset, with the arms' parts.
        truths: Truths of the training samples, name to ``[samples]``.
        notes: Notes for readers of the results.
    """

    content: Mapping[str, Any]
    dataset: Dataset
    truths: Mapping[str, np.ndarray]
    notes: Sequence[str]


def plan(
    sweep: Sweep[SweepSpec],
    store: Store,
    by: Sequence[str],
    keeps: Sequence[float],
    seeds: Sequence[int],
    folder: Path,
    chosen: str | None = None,
) -> Plan:
    """Plan the sweep that retrains on parts chosen by scores; needs a Ray session.

    Args:
        sweep: The finished sweep with the scores.
        store: The sweep's store.
        by: Score keys, as for ``sweep compare``. A score is the mean over the seeds of the best
            configuration of its regimen.
        keeps: Shares of the samples to keep.
        seeds: Seeds of the retraining.
        folder: The sweep's folder, which has the cache of scores.
        chosen: Id of the configuration to retrain, or its beginning; the best one if left out.

    Raises:
        Mistake: If the dataset has changed, or a key or the configuration has no scores.
    """
    spec = sweep.spec
    loaded, dataset = load(spec)
    if dataset.digest != spec.dataset_digest:
        raise Mistake(f"{spec.name}: expected the dataset that was scored; got another one")
    collected_scores.quiet()
    scores, notes = collected_scores.collect(sweep, store, folder)
    trained = configuration(sweep, scores, chosen)
    pixels: dict[str, np.ndarray] = {}
    if collected_scores.needs_images(by):
        pixels = collected_scores.pixel_scores(by, dataset, folder)
    known = collected_scores.score_keys(sweep, scores, pixels)
    if unknown := [key for key in by if key not in known]:
        raise Mistake(f"--by: {unknown_metric(unknown[0], known)}")
    sample_ids = dataset.train.sample_ids.numpy()
    hardness, truths = (
        {
            name: pd.Series(v, scores[0].sample_ids).loc[sample_ids].to_numpy()
            for name, v in of.items()
        }
        for of in (
            score_sets.mean_hardness(sweep, scores, pixels, by),
            truth_table.truths_of(sweep, store, scores, {}, notes).by_name,
        )
    )
    found, parts = arms(
        trained.configuration, hardness, dataset.train.labels.numpy(), len(dataset.classes), keeps
    )
    return Plan(
        content={
            **content(store.read_sweep(), trained, seeds, found),
            "dataset_digest": loaded.dataset_digest,
            "dataset_size": loaded.dataset_size,
        },
        dataset=dataclasses.replace(dataset, parts=parts),
        truths=truths,
        notes=notes,
    )


def refuse(
    sweep: Sweep[SweepSpec], store: Store, by: Sequence[str], chosen: str | None = None
) -> None:
    """Refuse a pruning that cannot work, before anything is started.

    Args:
        sweep: The sweep with the scores.
        store: The sweep's store.
        by: Score keys, as for ``plan``.
        chosen: Id of the configuration to retrain, as for ``plan``.

    Raises:
        Mistake: If the sweep is not finished, a key or configuration is unknown, or the name of
            the retraining is taken.
    """
    spec = sweep.spec
    if waiting := [c for c in sweep.cells if c.state in ("missing", "running")]:
        raise Mistake(
            f"{spec.name}: expected a finished sweep; got {len(waiting)} of {len(sweep.cells)} "
            "cells not done: sweep run goes on with them"
        )
    if spec.arms:
        raise Mistake(f"{spec.name}: expected a sweep with scores; got one that prunes")
    known = spec.needs.nameable
    if unknown := [key for key in by if key not in known]:
        raise Mistake(f"--by: {unknown_metric(unknown[0], known)}")
    able = [
        p.configuration.configuration_id
        for p in sweep.proposals
        if p.configuration.regimen == "supervised"
    ]
    if not able:
        raise Mistake(f"{spec.name}: expected a supervised configuration to train; got none")
    if chosen is not None and sum(one.startswith(chosen) for one in able) != 1:
        raise Mistake(f"--configuration: expected one of {', '.join(able)}; got {chosen!r}")
    _refuse_taken(store.uri, f"{spec.name}-prune")


def _refuse_taken(uri: str, name: str) -> None:
    """Refuse to overwrite a sweep of this name that is not a retraining."""
    try:
        there = Store.find(uri, name).read_sweep()
    except NoSuchSweep:
        return
    if not there.get("arms"):
        raise Mistake(f"expected {name} to be a free name; got another sweep of this name")


def configuration(
    sweep: Sweep[SweepSpec], scores: Sequence[ConfigurationScores], chosen: str | None
) -> ConfigurationScores:
    """The configuration to retrain.

    Args:
        sweep: The sweep with the scores.
        scores: Scores of its configurations.
        chosen: Id of a supervised configuration, or its beginning. If left out, the supervised
            configuration that is best by its own objective.

    Raises:
        Mistake: If there is no such configuration.
    """
    best = {
        c.configuration.regimen: c for c in collected_scores.best_of_each_regimen(sweep, scores)
    }
    if "supervised" not in best:
        raise Mistake(f"{sweep.spec.name}: expected a scored supervised configuration; got none")
    if chosen is None:
        return best["supervised"]
    able = {
        one.configuration.configuration_id: one
        for one in scores
        if one.configuration.regimen == "supervised"
    }
    meant = [one for configuration_id, one in able.items() if configuration_id.startswith(chosen)]
    if len(meant) != 1:
        raise Mistake(f"--configuration: expected one of {', '.join(able)}; got {chosen!r}")
    return meant[0]


def arms(
    trained: Configuration,
    hardness: Mapping[str, np.ndarray],
    labels: np.ndarray,
    n_classes: int,
    keeps: Sequence[float],
) -> tuple[list[Proposal], dict[str, np.ndarray]]:
    """The arms: all samples; for each score and share the hardest, the easiest and random ones.

    A random part has the class counts of the part that it is compared with. Every seed draws its
    own part, so differences include the luck of the draw. Smaller parts are trained for more
    epochs: all arms take as many steps as all samples would, to the nearest epoch.

    Args:
        trained: The configuration that is trained again.
        hardness: Hardness of every sample, by score key.
        labels: Given class of every sample.
        n_classes: Number of classes.
        keeps: Shares of the samples to keep.

    Returns:
        The arms, and the sample positions of the ranked parts, by digest.

    Raises:
        Mistake: If a sample has no score.
    """
    train = trained.options["train"]

    def steps(samples: int) -> int:
        return len(batches(torch.arange(samples), train["batch_size"]))

    n = len(labels)
    found = [Proposal(configuration=trained, parameters={"keep": 1.0, "part": "all"}, number=0)]
    parts: dict[str, np.ndarray] = {}
    for by, scores in hardness.items():
        for keep in sorted({*keeps}, reverse=True):
            for which in _ENDS:
                try:
                    ids = ranked_part(scores, keep, which)
                except ValueError as error:
                    raise Mistake(f"--by {by}: {error}") from error
                digest, counts = digest_of(ids), class_counts(labels[ids], n_classes)
                parts[digest] = ids
                epochs = max(1, round(train["max_epochs"] * steps(n) / steps(len(ids))))
                for name, part in (
                    (which, {"ids": digest}),
                    (_LIKE[which], {"counts": [*counts]}),
                ):
                    arm = Proposal(
                        configuration=_on_part(trained, part, epochs),
                        parameters={"keep": keep, "part": f"{name} by {by}"},
                        number=len(found),
                    )
                    found.append(arm)
    return found, parts


def _on_part(trained: Configuration, part: Mapping[str, Any], max_epochs: int) -> Configuration:
    """The configuration, trained on a part of its samples for this number of epochs."""
    train = {**trained.options["train"], "max_epochs": max_epochs}
    return dataclasses.replace(
        trained,
        dataset={**trained.dataset, "part": part},
        options={**trained.options, "train": train},
    )


def content(
    base: Mapping[str, Any],
    trained: ConfigurationScores,
    seeds: Sequence[int],
    arms: Sequence[Proposal],
) -> dict[str, Any]:
    """The experiment file of the retraining, as a store keeps it.

    Args:
        base: Experiment file of the sweep with the scores.
        trained: The configuration that is trained again.
        seeds: Seeds of the retraining.
        arms: The arms to train.
    """
    kept = {k: v for k, v in base.items() if k not in ("method", "max_configurations", "plugins")}
    objective = {"name": ACCURACY, "goal": "maximize"}
    return {
        **kept,
        "name": f"{base['name']}-prune",
        "model": dict(trained.configuration.model),
        "regimens": {"supervised": {**trained.configuration.options, "metric": objective}},
        "seeds": list(seeds),
        # A metric without a scoring pass: these runs are only asked for their accuracy.
        "metrics": ["mean_loss"],
        "score_epochs": None,
        "keep": {"embedding": "none", "logits": "none"},
        "arms": [dataclasses.asdict(arm) for arm in arms],
    }


def shares(text: str) -> list[float]:
    """Parse shares such as ``0.9,0.7``.

    Raises:
        Mistake: If a share is not between 0 and 1.

    Example:
        >>> shares("0.9,0.7")
        [0.9, 0.7]
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise Mistake(f"--keep: expected shares such as 0.9,0.7; got {text!r}") from error
    if wrong := [keep for keep in found if not 0 < keep < 1]:
        raise Mistake(f"--keep: expected shares between 0 and 1; got {wrong[0]:g}")
    return found


def retraining_seeds(asked: Sequence[int] | int, sweep: Sweep[SweepSpec]) -> list[int]:
    """Seeds for the retraining; none of them was used for the scores.

    Args:
        asked: The seeds, or their number; then they follow the largest seed of the scores.
        sweep: The sweep with the scores.

    Raises:
        Mistake: If there are fewer than two seeds, or a seed was used for the scores.
    """
    scored = {cell.run.seed for cell in sweep.cells}
    if isinstance(asked, int):
        first = max(scored, default=-1) + 1
        asked = range(first, first + asked)
    if shared := sorted({*asked} & scored):
        raise Mistake(
            f"--seeds: expected seeds that no score comes from; got {', '.join(map(str, shared))}"
        )
    if len(asked) < _FEWEST_SEEDS:
        raise Mistake(f"--seeds: expected {_FEWEST_SEEDS} seeds or more; got {len(asked)}")
    return list(asked)


def table(
    sweep: Sweep[SweepSpec],
    dataset: Dataset,
    truths: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Accuracy of every arm, and its difference from the random arm of the same class counts.

    Args:
        sweep: The retraining sweep with its cells.
        dataset: Its dataset, with the arms' parts.
        truths: Truths of the training samples; only binary ones are used.

    Returns:
        One row per arm: its samples; the number of finished ``seeds``, and ``missing_seeds`` with
        reasons; validation ``accuracy`` of the last epoch, mean and standard deviation over seeds;
        ``difference`` from the random arm, paired by seed. The two runs of a pair share no random
        stream, so they are as independent as runs of two seeds. ``_low`` and ``_high`` are 95 % t
        intervals over seeds. ``share_<truth>`` is the share of the arm's samples that the truth
        marks; for a random arm it is the expected share.
    """
    binary = {name: truth for name, truth in (truths or {}).items() if is_binary(truth)}
    found = {_key(arm): _accuracies(sweep, arm.configuration) for arm in sweep.spec.arms}
    rows = []
    for arm in sweep.spec.arms:
        configuration, (by, keep, which) = arm.configuration, _key(arm)
        part = configuration.dataset.get("part")
        accuracy, missing = found[by, keep, which]
        low, high = _mean_interval([*accuracy.values()])
        row: dict[str, Any] = {
            "by": by,
            "keep": keep,
            "arm": which,
            "samples": samples_in(dataset, part),
            "max_epochs": configuration.options["train"]["max_epochs"],
            "seeds": len(accuracy),
            "accuracy": _mean([*accuracy.values()]),
            "accuracy_low": low,
            "accuracy_high": high,
            "std": float(np.std([*accuracy.values()], ddof=1)) if len(accuracy) > 1 else math.nan,
        }
        if which in _LIKE:
            beside, _ = found[by, keep, _LIKE[which]]
            differences = [accuracy[s] - beside[s] for s in accuracy if s in beside]
            low, high = _mean_interval(differences)
            row |= {
                "difference": _mean(differences),
                "difference_low": low,
                "difference_high": high,
            }
        row |= {f"share_{name}": _share(part, dataset, truth) for name, truth in binary.items()}
        row["configuration_id"] = configuration.configuration_id
        row["missing_seeds"] = missing
        rows.append(row)
    return pd.DataFrame(rows)


def _key(arm: Proposal) -> tuple[str, float, str]:
    """Score key (empty for all samples), share and part of an arm."""
    which, _, by = arm.parameters["part"].partition(" by ")
    return by, arm.parameters["keep"], which


def _accuracies(
    sweep: Sweep[SweepSpec], configuration: Configuration
) -> tuple[dict[int, float], str]:
    """Accuracy of finished runs by seed, and the missing seeds with their reasons."""
    wanted = configuration.configuration_id
    cells = [c for c in sweep.cells if c.run.configuration.configuration_id == wanted]
    done = {
        c.run.seed: c.trace.objectives[ACCURACY] for c in cells if c.state == "done" and c.trace
    }
    missing = [
        f"seed {c.run.seed}: {(c.trace and c.trace.reason) or c.state}"
        for c in cells
        if c.state != "done"
    ]
    return done, "; ".join(missing)


def _share(part: Mapping[str, Any] | None, dataset: Dataset, truth: np.ndarray) -> float:
    """The share of a part's samples that a truth marks."""
    if part is None:
        return float(np.nanmean(truth))
    if "ids" in part:
        return float(np.nanmean(truth[dataset.parts[part["ids"]]]))
    labels = dataset.train.labels.numpy()
    expected = [
        count * np.nanmean(truth[labels == label])
        for label, count in enumerate(part["counts"])
        if count
    ]
    return float(np.sum(expected) / sum(part["counts"]))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % t interval of the mean of independent values; NaN for fewer than two."""
    if len(values) < _FEWEST_SEEDS:
        return math.nan, math.nan
    error = float(stats.sem(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return _mean(values) - reach, _mean(values) + reach


def write(table: pd.DataFrame, folder: Path) -> None:
    """Write ``prune.csv`` into a folder, completely or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "prune.csv") as path:
        table.to_csv(path, index=False)
