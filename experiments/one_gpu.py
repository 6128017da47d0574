"""Run an experiment file on one GPU without Ray, several runs at a time.

``python experiments/one_gpu.py FILE [KEY=VALUE …] [--at-a-time N] [--output FOLDER]`` trains the
grid's runs as ``sweep run`` would, each in its own process. FOLDER/runs has the runs; ``sweep
aggregate FOLDER/runs`` reads them on a machine with Ray. FOLDER/scores has the scores of each run.
FOLDER/one_gpu.csv has the stability of every score over seeds, and how well it finds each truth.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd

from hardness.comparison.stability import stability
from hardness.comparison.truth import truth_table
from hardness.data import datasets
from hardness.dynamics.folder import Dynamics
from hardness.dynamics.record import Recording
from hardness.metrics.registry import METRICS
from hardness.planting.options import TRUTH
from hardness.planting.plant import plant
from hardness.scoring.runs import scorable, score_run
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.runs import Pack, RunSpec
from sweep.experiment.spec import SweepSpec
from sweep.planning import search
from sweep.store.run_folders import TrainingFolders

TRUTHS = ("auroc", "auroc_low", "auroc_high", "auroc_within_class", "average_precision", "lift")


def main() -> None:
    """Train and score all runs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--at-a-time", type=int, default=4, help="runs on the GPU at a time (4)")
    parser.add_argument("--output", type=Path, default=Path("one_gpu"))
    asked = parser.parse_intermixed_args()
    content = yaml_file.read(asked.file, asked.overrides)
    spec = check.check(content, str(asked.file))
    dataset = datasets.load(spec.dataset, validation=spec.validation)
    if spec.plant is not None:
        dataset = plant(dataset, spec.plant)
    print(f"{len(dataset.train):,} images of {spec.dataset.name}", flush=True)
    size = (len(dataset.train), len(dataset.classes), *dataset.train.images.shape[1:])
    spec = dataclasses.replace(spec, dataset_digest=dataset.digest, dataset_size=size)
    runs = [
        RunSpec(configuration=p.configuration, seed=seed)
        for p in search.proposals(spec, [], {})
        for seed in spec.most_seeds(p.configuration.regimen)
    ]
    keys = [*spec.needs.metrics]
    places = {name: places_of(spec, name, asked.output) for name in spec.regimens}
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(asked.at_a_time, spawn) as pool:
        futures = [
            pool.submit(train, run, dataset, places[run.configuration.regimen], keys, asked.output)
            for run in runs
        ]
        for future in concurrent.futures.as_completed(futures):
            print(future.result(), flush=True)
    table = compared(runs, asked.output, dataset)
    table.to_csv(asked.output / "one_gpu.csv", index=False, float_format="%.5g")
    shown = ["score", "two_seeds", "within_class", *(f"{t}_auroc" for t in truths_of(dataset))]
    print(table[shown].to_string(index=False, float_format="%.3f"))


def places_of(spec: SweepSpec, regimen: str, output: Path) -> Places:
    """The places of a regimen's runs: folders, without a tracker."""
    return Places(
        store=TrainingFolders(output.absolute() / "runs"),
        name=spec.name,
        storage_path=str(output.absolute()),
        recording=Recording(passes=spec.needs.passes[regimen], score_epochs=spec.score_epochs),
        checkpoint_seconds=spec.resources.checkpoint_seconds,
        spool_gib=spec.resources.spool_gib,
        plugins=spec.plugins,
    )


def train(
    run: RunSpec, dataset: datasets.Dataset, places: Places, keys: list[str], output: Path
) -> str:
    """Train one run into its folder and score it; returns a line about it."""
    began = time.perf_counter()
    regimen = run.configuration.regimen
    ends, summary = [began], {}
    for progress in run_pack(
        Pack(configuration=run.configuration, seeds=(run.seed,)), dataset, places
    ):
        if progress.state == "failed":
            raise RuntimeError(f"{regimen} seed {run.seed}: {progress.reason}")
        if progress.state == "running":
            ends.append(time.perf_counter())
            summary = dict(progress.summary)
    an_epoch = np.median(np.diff(ends)) if summary else 0.0
    trained = time.perf_counter()
    dynamics = Dynamics(output / "runs" / run.run_id)
    signals = dynamics.manifest.signals
    scores = score_run(dynamics, scorable(keys, signals), n_classes=len(dataset.classes))
    path = scores_file(output, run)
    path.parent.mkdir(exist_ok=True)
    scores.astype({c: "float32" for c in scores if scores[c].dtype == np.float64}).to_parquet(path)
    return (
        f"{regimen} seed {run.seed}: {trained - began:.0f} s, {an_epoch:.2f} s an epoch, scored in "
        f"{time.perf_counter() - trained:.0f} s, "
        + ", ".join(f"{k} {v:.4g}" for k, v in summary.items())
    )


def scores_file(output: Path, run: RunSpec) -> Path:
    """Path of the scores of a run."""
    name = f"{run.configuration.regimen}-{run.configuration.configuration_id}-{run.seed}.parquet"
    return output / "scores" / name


def truths_of(dataset: datasets.Dataset) -> dict[str, np.ndarray]:
    """Planted truths by kind, one number per sample; high is hard."""
    names = [str(name) for name in dataset.columns if str(name).startswith(TRUTH)]
    return {n.removeprefix(TRUTH): dataset.columns[n].to_numpy(np.float64) for n in names}


def compared(runs: list[RunSpec], output: Path, dataset: datasets.Dataset) -> pd.DataFrame:
    """Stability of every score over seeds, and how well its mean over seeds finds each truth."""
    labels = dataset.train.labels.numpy()
    truths = truths_of(dataset)
    rows = []
    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run in runs:
        one = run.configuration
        groups.setdefault((one.regimen, one.configuration_id), []).append(run)
    for (regimen, configuration_id), mine in groups.items():
        tables = [pd.read_parquet(scores_file(output, run)) for run in mine]
        scores = {
            key: METRICS[key].sign * np.stack([t[key].to_numpy(np.float64) for t in tables])
            for key in tables[0]
            if key in METRICS
        }
        found = truth_table(scores, truths, labels) if truths else pd.DataFrame()
        for key, hardness in scores.items():
            stable = stability(hardness, labels)
            row = {
                "score": f"{key}.{regimen}",
                "configuration_id": configuration_id,
                "labels_used": METRICS[key].labels_used,
                "runs": len(mine),
                "two_seeds": stable.spearman_pair_mean.value,
                "two_seeds_low": stable.spearman_pair_mean.low,
                "two_seeds_high": stable.spearman_pair_mean.high,
                "within_class": stable.spearman_within_class_pair_mean.value,
            }
            for name in truths:
                of = found[(found["score"] == key) & (found["truth"] == name)].iloc[0]
                row |= {f"{name}_{statistic}": of.get(statistic) for statistic in TRUTHS}
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
