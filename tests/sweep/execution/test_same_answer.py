"""The same RunSpec leaves the same bits: alone, under Ray, second in a pack, after kill -9."""

import dataclasses
import time

import pytest

from sweep.execution import driver, fanout
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.plugins import Plugin
from sweep.experiment.runs import Pack, RunSpec
from sweep.experiment.spec import Resources
from sweep.planning import search
from sweep.store.mlflow_store import Store
from tests.sweep.sweeps import experiment, stored

pytestmark = pytest.mark.slow

# Dies after the upload of epoch 2 and before its checkpoint, once.
KILLER = """
import os, signal, time
from pathlib import Path
import sweep.execution.trial

MARKER = Path({marker!r})
ARTIFACTS = Path({artifacts!r})
save = sweep.execution.trial.save_checkpoint

def die_once(checkpoint, folder):
    if checkpoint.epoch == 2 and not MARKER.exists():
        while not list(ARTIFACTS.rglob("epoch=0002.parquet")):
            time.sleep(0.02)
        MARKER.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    save(checkpoint, folder)

sweep.execution.trial.save_checkpoint = die_once
"""


@pytest.fixture(params=["supervised", "contrastive"])
def setting(request, workdir):
    """A configuration of each regimen, its dataset, and places of its own."""
    path = experiment(workdir, epochs=5, subset=150)
    spec = check.check(yaml_file.read(path), str(path))
    spec, dataset = driver.load(spec)
    proposal = next(
        p for p in search.proposals(spec, [], {}) if p.configuration.regimen == request.param
    )

    def places(name):
        store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", name)
        return store, Places(
            store=store,
            name=name,
            storage_path=str(workdir / "storage" / name),
            checkpoint_seconds=0,
        )

    return proposal.configuration, dataset, places


def trace(store, configuration, seed):
    return store.traces()[RunSpec(configuration=configuration, seed=seed).run_id]


def pack(store, configuration, *seeds):
    parent = store.save_configuration(configuration, {}, 0)
    return Pack(configuration=configuration, seeds=seeds, parent_run=parent)


def alone(setting, seed=1):
    configuration, dataset, places = setting
    store, here = places("alone")
    list(run_pack(pack(store, configuration, seed), dataset, here))
    found = trace(store, configuration, seed)
    assert found.state == "done"
    return stored(store, found.tracking_run)


def under_ray(configuration, dataset, store, here, packs):
    pending, events = [packs], []
    lost = fanout.run(
        lambda: pending.pop() if pending else [],
        events.append,
        dataset=dataset,
        places=here,
        resources=Resources(),
    )
    assert not lost
    return events


def test_under_ray_and_as_second_seed_of_a_pack(setting, ray_session):
    configuration, dataset, places = setting
    expected = alone(setting)
    store, here = places("ray")
    under_ray(configuration, dataset, store, here, [pack(store, configuration, 0, 1)])
    assert stored(store, trace(store, configuration, 1).tracking_run) == expected
    other = stored(store, trace(store, configuration, 0).tracking_run)
    assert all(other[name] != expected[name] for name in ("msd", "feature_norm", "emb"))


def test_after_kill_9_between_an_upload_and_its_checkpoint(setting, ray_session, workdir):
    configuration, dataset, places = setting
    expected = alone(setting)
    store, here = places("killed")
    marker = workdir / "killed.marker"
    text = KILLER.format(marker=str(marker), artifacts=str(workdir / "mlartifacts" / "killed"))
    here = dataclasses.replace(here, plugins=(Plugin(path="killer.py", text=text),))
    events = under_ray(configuration, dataset, store, here, [pack(store, configuration, 1)])
    assert marker.exists()
    # Epochs 1 and 2 once, then on from there: not from the start.
    assert [e.epoch for e in events if e.state == "running"] == [1, 2, 3, 4, 5]
    assert stored(store, trace(store, configuration, 1).tracking_run) == expected
    assert [t.state for t in store.traces().values()] == ["done"]
    history = store.client.get_metric_history(
        trace(store, configuration, 1).tracking_run, "train_loss"
    )
    assert [point.step for point in history] == [0, 1, 2, 3, 4]


def test_epoch_0_is_stored_before_the_last_epoch_starts(setting):
    configuration, dataset, places = setting
    store, here = places("early")
    epochs = configuration.options["train"]["max_epochs"]
    files = set()
    for progress in run_pack(pack(store, configuration, 0), dataset, here):
        if progress.epoch == epochs - 1 and progress.state == "running":
            # The generator rests, so the last epoch has not started; the upload goes on.
            end = time.monotonic() + 10
            while "dynamics/epoch=0000.parquet" not in files and time.monotonic() < end:
                files = {*store.files(trace(store, configuration, 0).tracking_run)}
    assert "dynamics/epoch=0000.parquet" in files
    assert "dynamics/epoch=0004.parquet" not in files
