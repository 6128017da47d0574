"""Self-supervised runs in a sweep: every key for every sample, passes that change nothing."""

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.folder import Dynamics
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import scorable, score_run
from hardness.training import REGIMENS
from sweep.aggregation import agreement_table, collected_scores
from sweep.execution import driver
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.runs import Configuration, Pack, RunSpec
from sweep.planning import due_cells, search
from sweep.store.mlflow_store import Store
from tests.sweep.sweeps import stored

pytestmark = pytest.mark.slow

# Scored after the first and the last epoch; the run is cut off between them.
EPOCHS, CUT = 4, 2
EXPERIMENT = f"""
name: ssl
dataset: {{name: digits}}
validation: {{split: 0.2}}
model: {{name: small_cnn, width: 8}}
regimens:
  contrastive:
    objective: OBJECTIVE
    augmentation: {{crop_scale: [0.4, 1.0], brightness: 0.4, contrast: 0.4}}
    train: {{max_epochs: {EPOCHS}, batch_size: 256, optimizer: adamw, lr: 0.002}}
  autoencoder:
    train: {{max_epochs: {EPOCHS}, batch_size: 128, optimizer: adamw, lr: 0.002}}
seeds: 1
metrics: all
score_epochs: [0, -1]
"""


def setting(workdir, regimen, objective="simclr"):
    """A configuration, its dataset, and what makes places of their own that record alike."""
    path = workdir / "ssl.yaml"
    path.write_text(EXPERIMENT.replace("OBJECTIVE", objective))
    spec, dataset = driver.load(check.check(yaml_file.read(path), str(path)))
    (configuration,) = (
        p.configuration
        for p in search.proposals(spec, [], {})
        if p.configuration.regimen == regimen
    )

    def places(name, **recording):
        store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", name)
        return store, Places(
            store=store,
            name=name,
            storage_path=str(workdir / "storage" / name),
            recording=dataclasses.replace(spec.needs.recording, **recording),
            checkpoint_seconds=0,
        )

    return spec, configuration, dataset, places


def pack(store, configuration):
    parent = store.save_configuration(configuration, {}, 0)
    return Pack(configuration=configuration, seeds=(0,), parent_run=parent)


def trace(store, configuration):
    found = store.traces()[RunSpec(configuration=configuration, seed=0).run_id]
    assert found.state == "done"
    return found


def cut_off(events, places, run_id):
    """Stop after ``CUT`` epochs, as a lost worker does, once they are stored."""
    for progress in events:
        if progress.epoch == CUT:
            break
    end = time.monotonic() + 60
    while [*(places.spool(run_id) / "dynamics").glob("*")] and time.monotonic() < end:
        time.sleep(0.02)
    events.close()
    # The checkpoint of an epoch is written before its report.
    assert checkpoints.newest_first(places.checkpoints(run_id))[0][0] == CUT - 1


@pytest.mark.parametrize("objective", ["simclr", "barlow_twins"])
def test_a_contrastive_run_leaves_every_key_and_the_same_bits_when_taken_up(workdir, objective):
    spec, configuration, dataset, places = setting(workdir, "contrastive", objective)
    store, here = places("whole")
    list(run_pack(pack(store, configuration), dataset, here))
    whole = trace(store, configuration)
    assert whole.passes == {"views": (0, EPOCHS - 1), "perturbation": (0, EPOCHS - 1)}
    assert [c.state for c in due_cells.cells(spec, [configuration], store.traces())] == ["done"]

    other, there = places("cut")
    run_id = RunSpec(configuration=configuration, seed=0).run_id
    cut_off(run_pack(pack(other, configuration), dataset, there), there, run_id)
    again = [*run_pack(pack(other, configuration), dataset, there)]
    assert again[0].epoch == CUT + 1
    expected = stored(store, whole.tracking_run)
    assert stored(other, trace(other, configuration).tracking_run) == expected

    dynamics = Dynamics(store.local_folder(whole.tracking_run))
    keys = scorable(METRICS, dynamics.manifest.signals)
    ours = {key for key in METRICS if key.startswith("ssl_")}
    assert ours <= {*keys}
    scores = score_run(dynamics, keys, n_classes=len(dataset.classes))
    assert len(scores) == len(dataset.train)
    for key in keys:
        if "discrepancy" in key:  # of ten epochs at least
            assert np.isnan(scores[key]).all(), key
        else:
            assert np.isfinite(scores[key]).mean() >= 0.99, key
            assert scores[key].nunique() > 1, key
    recorded = dynamics.signals(["lgn", "lgn.stacked", "lgn.own", "feature_norm"])
    assert {name: len(rows) for name, rows in recorded.items()} == {
        "lgn": 2, "lgn.stacked": 2, "lgn.own": 2, "feature_norm": EPOCHS,
    }  # fmt: skip


def test_recording_passes_leaves_the_training_alone(workdir):
    _, configuration, dataset, places = setting(workdir, "contrastive")
    found = []
    for name, recording in (("all", {}), ("none", {"passes": ()})):
        store, here = places(name, **recording)
        list(run_pack(pack(store, configuration), dataset, here))
        run = trace(store, configuration)
        found.append((stored(store, run.tracking_run), run))
    (full, with_passes), (bare, without) = found
    assert {name: full[name] for name in bare} == bare
    scored = {s for one in REGIMENS["contrastive"].passes.values() for s in one.signals}
    assert full.keys() - bare.keys() == scored
    for name in ("train_loss", "val_loss"):
        assert with_passes.objectives[name] == without.objectives[name]


def test_a_run_without_the_passes_that_are_asked_for_counts_as_missing(workdir):
    spec, configuration, dataset, places = setting(workdir, "contrastive")
    store, here = places("none", passes=())
    list(run_pack(pack(store, configuration), dataset, here))
    assert trace(store, configuration).passes == {}
    assert [c.state for c in due_cells.cells(spec, [configuration], store.traces())] == ["missing"]


def test_an_autoencoder_s_run_is_taken_up_and_scores_every_sample(workdir):
    spec, configuration, dataset, places = setting(workdir, "autoencoder")
    store, here = places("whole")
    list(run_pack(pack(store, configuration), dataset, here))
    whole = trace(store, configuration)
    other, there = places("cut")
    run_id = RunSpec(configuration=configuration, seed=0).run_id
    cut_off(run_pack(pack(other, configuration), dataset, there), there, run_id)
    list(run_pack(pack(other, configuration), dataset, there))
    expected = stored(store, whole.tracking_run)
    assert stored(other, trace(other, configuration).tracking_run) == expected
    dynamics = Dynamics(store.local_folder(whole.tracking_run))
    keys = ["reconstruction_error", "reconstruction_error.mean", "msd_mean", "knn_distance"]
    scores = score_run(dynamics, keys, n_classes=len(dataset.classes))
    assert np.isfinite(scores[keys]).all(axis=None)
    assert [c.state for c in due_cells.cells(spec, [configuration], store.traces())] == ["done"]


def test_the_agreement_table_holds_reconstruction_error_beside_the_pixels():
    """Its correlation with entropy and total variation is to be read with it, always."""
    generator = np.random.default_rng(0)
    samples = 50
    one = collected_scores.ConfigurationScores(
        configuration=Configuration(
            regimen="autoencoder", numerics_version=1, dataset={"name": "toy"}, model={}, options={}
        ),
        parameters={},
        seeds=(0, 1),
        runs=("a", "b"),
        sample_ids=np.arange(samples),
        labels=np.arange(samples) % 2,
        raw={"reconstruction_error": generator.random((2, samples))},
        flags={},
        missing={},
        objective=0.1,
    )
    pixels = {name: generator.random(samples) for name in ("image_entropy", "total_variation")}
    goal = SimpleNamespace(metric=SimpleNamespace(goal="minimize"))
    sweep: Any = SimpleNamespace(spec=SimpleNamespace(regimens={"autoencoder": goal}))
    table = agreement_table.agreement_table(sweep, [one], pixels, intervals=False)
    pairs = {frozenset(pair) for pair in zip(table["left"], table["right"], strict=True)}
    for name in pixels:
        assert frozenset({"reconstruction_error.autoencoder", name}) in pairs
