"""Time and memory from finished runs to scores, stability and agreement; bytes of the dynamics."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from hardness.dynamics.folder import (
    SPEC,
    Manifest,
    epoch_file,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
)
from hardness.dynamics.record import INIT, EpochRecord
from hardness.files import fingerprint
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import scorable
from hardness.signals.names import LOGIT_SIGNALS, TRAIN_PHASE
from hardness.training import REGIMENS
from sweep.aggregation import aggregate, collected_scores
from sweep.execution import fanout, status
from sweep.experiment import check
from sweep.experiment.runs import RunSpec
from tests.benchmarks import storage
from tests.benchmarks.figures import Figure
from tests.benchmarks.memory import Memory

RUNS, EPOCHS, SAMPLES, CLASSES, WIDTH, NEIGHBORS = 10, 50, 50_000, 10, 64, 20
KEPT = ("neighbor_distances", "neighbor_rows")
# The metrics that the aim was set for.
CORE = (
    "forgetting_events", "learned_first_epoch", "fslt", "cartography_confidence",
    "cartography_variability", "cartography_correctness", "aum", "el2n", "mean_loss",
    "max_softmax", "predictive_entropy", "margin", "energy", "feature_norm_mean",
    "feature_norm_std",
)  # fmt: skip
TEN = (*LOGIT_SIGNALS, "feature_norm")


def measure(_pairs: int, *, core: bool = False) -> list[Figure]:
    """Point estimates of a whole sweep, from files to tables, by workers that start cold."""
    with storage.store("aggregation") as (store, places):
        sweep, size = _finished(store, Path(places.storage_path), core=core)
        started = time.perf_counter()
        with fanout.session():
            up = time.perf_counter()
            collected_scores.quiet()
            with Memory() as memory:
                result = aggregate.aggregate(
                    sweep, store, Path(places.storage_path), dataset=None, intervals=False
                )
            seconds = time.perf_counter() - up
    metrics, pairs = len(result.scores[0].raw), len(result.agreement)
    what = f"aggregation: {RUNS} runs x {EPOCHS} epochs x {SAMPLES:,} samples"
    return [
        Figure(
            what=what,
            asked="< 10 s",
            found=f"{seconds:.1f} s",
            note=f"{metrics} metrics, {pairs} pairs of score sets, no intervals; "
            f"Ray's start apart: {up - started:.1f} s",
        ),
        Figure(what="its peak memory", asked="< 2 GB", found=memory.found, note=memory.note),
        Figure(
            what="bytes a sample and epoch",
            asked="<= 30",
            found=f"{size:.1f}",
            note=f"{len(TEN)} signals: {', '.join(TEN)}",
        ),
        _of_embeddings(),
    ]


def _of_embeddings():
    """What a kept embedding adds to each run, apart: nearly all of it is k-means."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        seconds = pool.submit(_embedding_seconds).result()
    slowest = sorted(seconds, key=seconds.get, reverse=True)[:2]
    return Figure(
        what=f"metrics of one run's last embedding, {SAMPLES:,} x {WIDTH}, not in the above",
        asked="-",
        found=f"{sum(seconds.values()):.1f} s",
        note=f"{len(seconds)} metrics; " + ", ".join(f"{k} {seconds[k]:.1f} s" for k in slowest),
    )


def _embedding_seconds():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, WIDTH))
    spread = 0.2 + generator.beta(1.2, 4, size=(SAMPLES, 1))
    labels = generator.integers(CLASSES, size=SAMPLES)
    emb = centres[labels]
    emb = (emb + spread * generator.normal(size=emb.shape)).astype(np.float32)
    seconds = {}
    for key, metric in METRICS.items():
        if "emb" in metric.signals:
            started = time.perf_counter()
            metric.score({"emb": emb, "labels": labels, "n_classes": CLASSES})
            seconds[key] = time.perf_counter() - started
    return seconds


def _finished(store, folder, *, core=False):
    """A sweep whose runs are done; and bytes a sample and epoch of ten signals."""
    # All that the runs have signals for; scoring passes are not among them.
    asked = scorable(METRICS, (*REGIMENS["supervised"].signals, *KEPT))
    if core:
        asked = [key for key in asked if key.removesuffix(".train") in CORE]
    content = {
        "name": "aggregation",
        "dataset": {"name": "cifar10"},
        "model": {"name": "small_cnn"},
        "regimens": {"supervised": {"train": {"max_epochs": EPOCHS}}},
        "seeds": RUNS,
        "keep": {"embedding": "none", "logits": "none"},
        "metrics": asked,
        "storage_path": str(folder),
    }
    checked = check.check(content, "aggregation")
    spec = dataclasses.replace(checked, dataset_digest="0" * 64)
    proposal = status.look(spec, None).proposals[0]
    parent = store.save_configuration(proposal.configuration, proposal.parameters, 0)
    runs = [RunSpec(configuration=proposal.configuration, seed=s) for s in spec.seeds]
    folders = [folder / "made" / run.run_id for run in runs]
    # Processes of their own, so that making the data leaves nothing in this one's memory.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), spawn) as pool:
        sizes = list(pool.map(_make, folders, spec.seeds))
    for run, made in zip(runs, folders, strict=True):
        tracking_run = store.start_run(run, parent, {})
        for path in sorted(p for p in made.rglob("*") if p.is_file()):
            store.upload(tracking_run, path, path.relative_to(made).as_posix())
        store.log_epoch(tracking_run, EPOCHS - 1, {"val_accuracy": 0.9})
        store.finish(tracking_run)
    sweep = status.look(spec, store)
    assert all(cell.state == "done" for cell in sweep.cells)
    return sweep, float(np.mean(sizes))


def _make(folder, seed):
    """Write one run as training leaves it; returns bytes a sample and epoch of ten signals."""
    samples = np.random.default_rng(0)
    labels = samples.integers(CLASSES, size=SAMPLES)
    difficulty = samples.beta(1.2, 4, size=SAMPLES)
    confusion = samples.normal(size=(SAMPLES, CLASSES))
    own = np.random.default_rng(seed + 1)
    confusion = confusion + own.normal(scale=0.7, size=confusion.shape)
    names = [
        write_samples(folder, samples_table(sample_ids=range(SAMPLES), labels=labels.tolist()))
    ]
    for epoch in range(INIT, EPOCHS):
        recorded = _signals(epoch, labels, difficulty, confusion, own)
        # What stays of the last epoch where the embedding itself is not kept.
        kept = _neighbors(difficulty, own) if epoch == EPOCHS - 1 else {}
        summary = {"lr": 0.1 if epoch < EPOCHS // 2 else 0.01}
        record = EpochRecord(
            epoch=epoch, signals=recorded, summary=summary, snapshots=kept, checkpoint=None
        )
        names += write_epoch(folder, record)
    (folder / SPEC).write_text(
        json.dumps(
            {
                "classes": list(map(str, range(CLASSES))),
                "device": "none",
                "cpu_capability": "none",
                "versions": {},
            }
        )
    )
    manifest = Manifest(
        epochs=EPOCHS,
        rows=SAMPLES,
        signals=(*REGIMENS["supervised"].signals, *kept),
        files={name: fingerprint(folder / name) for name in (*names, SPEC)},
    )
    write_manifest(folder, manifest)
    return np.mean([_bytes(folder / epoch_file(epoch)) for epoch in range(EPOCHS)]) / SAMPLES


def _signals(epoch, labels, difficulty, confusion, generator):
    """A logit that grows with the epoch, the slower the harder, against a fixed confusion."""
    from hardness.signals import logits as logit_signals

    learned = 9 * (1 - difficulty) * (1 - np.exp(-(epoch + 1) / (2 + 30 * difficulty)))
    shrinking = 0.3 + 0.7 * np.cos(np.pi * max(epoch, 0) / (2 * EPOCHS))
    clean = confusion * (0.5 + 2 * difficulty[:, None])
    clean[np.arange(SAMPLES), labels] += learned
    phases = [
        (clean + generator.normal(scale=scale * shrinking, size=clean.shape)).astype(np.float32)
        for scale in (0.4, 0.8)
    ]
    found = logit_signals.from_logits(phases[0], labels)
    trained = logit_signals.from_logits(phases[1], labels)
    norm = 1 + learned / 9 + generator.normal(scale=0.05, size=SAMPLES)
    moved = shrinking * (0.1 + difficulty) * generator.gamma(8, 1 / 8, size=SAMPLES)
    return {
        **found,
        "feature_norm": norm.astype(np.float32),
        "msd": (np.full(SAMPLES, np.nan) if epoch <= 0 else moved).astype(np.float32),
        "msd_cosine": (np.full(SAMPLES, np.nan) if epoch <= 0 else moved / norm).astype(np.float32),
        "grand_last_layer": found["el2n"] * np.sqrt(norm).astype(np.float32),
        "gradnorm": (found["el2n"] * norm).astype(np.float32),
        **{f"{name}.train": trained[name] for name in TRAIN_PHASE},
    }


def _neighbors(difficulty, generator):
    """The 20 nearest neighbours: any, at ascending distances that are wider for the hard."""
    steps = (0.2 + difficulty[:, None]) * generator.gamma(2, 0.02, size=(SAMPLES, NEIGHBORS))
    return {
        "neighbor_distances": (0.1 + steps.cumsum(axis=1)).astype(np.float32),
        "neighbor_rows": generator.integers(SAMPLES, size=(SAMPLES, NEIGHBORS), dtype=np.int32),
    }


def _bytes(path):
    """Size of ten signals' columns, and of the file's frame around them."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    columns = [group.column(c) for group in groups for c in range(metadata.num_columns)]
    sizes = [(c.path_in_schema, c.total_compressed_size) for c in columns]
    frame = path.stat().st_size - sum(size for _, size in sizes)
    return frame + sum(size for name, size in sizes if name in TEN)
