"""An experiment file on one GPU of a machine that has torch and no Ray, several runs at a time.

``python experiments/one_gpu.py FILE [KEY=VALUE …] [--at-a-time N] [--output FOLDER]`` trains the
grid's runs as ``sweep run`` would, each in a process of its own, into FOLDER/runs, which ``sweep
aggregate FOLDER/runs`` reads where there is Ray. FOLDER/scores has each run's scores, and
FOLDER/one_gpu.csv says of every score how stable it is over seeds and how well it finds each truth.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hardness import datasets
from hardness.dynamics import (
    Dynamics,
    Manifest,
    Recording,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
    write_spec,
)
from hardness.files import fingerprint
from hardness.metrics import METRICS
from hardness.options import ModelOptions
from hardness.plan import TRUTH
from hardness.planting import plant
from hardness.provenance import circumstances
from hardness.scoring import scorable, score_run
from hardness.seeding import Streams
from hardness.stability import stability
from hardness.training import REGIMENS
from hardness.training.passes import schedule
from hardness.truth import truth_table
from sweep import experiment_file, planning
from sweep.spec import RunSpec, canonical_json

TRUTHS = ("auroc", "auroc_low", "auroc_high", "auroc_within_class", "average_precision", "lift")


def main() -> None:
    """Train, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--at-a-time", type=int, default=4, help="runs on the GPU (4)")
    parser.add_argument("--output", type=Path, default=Path("one_gpu"))
    asked = parser.parse_intermixed_args()
    content = experiment_file.read(asked.file, asked.overrides)
    spec = experiment_file.check(content, str(asked.file))
    dataset = datasets.load(spec.dataset, validation=spec.validation)
    if spec.plant is not None:
        dataset = plant(dataset, spec.plant)
    print(f"{len(dataset.train):,} images of {spec.dataset.name}", flush=True)
    size = (len(dataset.train), len(dataset.classes), *dataset.train.images.shape[1:])
    spec = dataclasses.replace(spec, dataset_digest=dataset.digest, dataset_size=size)
    proposals = planning.proposals(spec, [], {})
    recordings = {
        name: Recording(passes=planning.wanted_passes(spec, name), score_epochs=spec.score_epochs)
        for name in spec.regimens
    }
    jobs = [
        (RunSpec(configuration=p.configuration, seed=seed), recordings[p.configuration.regimen])
        for p in proposals
        for seed in planning.most_seeds(spec, p.configuration.regimen)
    ]
    keys = planning.asked_metrics(spec)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(asked.at_a_time, spawn) as pool:
        futures = [pool.submit(train, *job, dataset, keys, asked.output) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            print(future.result(), flush=True)
    table = compared([run for run, _ in jobs], asked.output, dataset)
    table.to_csv(asked.output / "one_gpu.csv", index=False, float_format="%.5g")
    shown = ["score", "two_seeds", "within_class", *(f"{t}_auroc" for t in truths_of(dataset))]
    print(table[shown].to_string(index=False, float_format="%.3f"))


def train(
    run: RunSpec, recording: Recording, dataset: datasets.Dataset, keys: list[str], output: Path
) -> str:
    """Train one run into its folder and score it; returns a line about it."""
    began = time.perf_counter()
    configuration = run.configuration
    regimen = REGIMENS[configuration.regimen]
    options = experiment_file.options(regimen.options, configuration.options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = output / "runs" / run.run_id
    folder.mkdir(parents=True)
    table = samples_table(
        sample_ids=dataset.train.sample_ids.tolist(),
        labels=dataset.train.labels.tolist(),
        columns=dataset.columns,
    )
    said = {
        "run_id": run.run_id,
        "configuration_id": configuration.configuration_id,
        "run": json.loads(canonical_json(run)),
        "classes": list(dataset.classes),
        **circumstances(device),
    }
    files = [write_samples(folder, table), write_spec(folder, said)]
    records = regimen.train(
        dataclasses.replace(dataset, columns=dataset.columns.iloc[:, :0]),
        experiment_file.options(ModelOptions, configuration.model),
        options,
        Streams(seed=run.seed, salt=configuration.configuration_id, vary=configuration.vary),
        device=device,
        recording=recording,
    )
    seconds, snapshots = [], set[str]()
    for record in records:
        files += write_epoch(folder, record)
        snapshots |= record.snapshots.keys()
        seconds.append(time.perf_counter())
    passes = schedule(regimen.passes, recording, options.epochs)
    made = (signal for name in passes for signal in regimen.passes[name].signals)
    manifest = Manifest(
        epochs=options.epochs,
        rows=len(dataset.train),
        signals=(*regimen.signals, *made, *sorted(snapshots)),
        files={name: fingerprint(folder / name) for name in files},
        passes=passes,
    )
    write_manifest(folder, manifest)
    trained = time.perf_counter()
    dynamics = Dynamics(folder)
    scores = score_run(dynamics, scorable(keys, manifest.signals), n_classes=len(dataset.classes))
    path = scores_file(output, run)
    path.parent.mkdir(exist_ok=True)
    scores.astype({c: "float32" for c in scores if scores[c].dtype == np.float64}).to_parquet(path)
    return (
        f"{regimen.name} seed {run.seed}: {trained - began:.0f} s, "
        f"{np.median(np.diff(seconds)):.2f} s an epoch, scored in "
        f"{time.perf_counter() - trained:.0f} s, "
        + ", ".join(f"{k} {v:.4g}" for k, v in record.summary.items())
    )


def scores_file(output: Path, run: RunSpec) -> Path:
    """Where a run's scores are."""
    name = f"{run.configuration.regimen}-{run.configuration.configuration_id}-{run.seed}.parquet"
    return output / "scores" / name


def truths_of(dataset: datasets.Dataset) -> dict[str, np.ndarray]:
    """What is planted, by kind: one number a sample, high where it is hard."""
    names = [str(name) for name in dataset.columns if str(name).startswith(TRUTH)]
    return {n.removeprefix(TRUTH): dataset.columns[n].to_numpy(np.float64) for n in names}


def compared(runs: list[RunSpec], output: Path, dataset: datasets.Dataset) -> pd.DataFrame:
    """Of every score its stability over seeds, and how its mean over seeds finds each truth."""
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
