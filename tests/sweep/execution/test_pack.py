"""What becomes of a pack's seeds: one that diverges is stored first, one that is done stays so."""

import dataclasses
import time
import uuid
from typing import Any

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
from sweep.store.run_store import manifest_of
from sweep.store.uploading import waiting
from tests.sweep.stores import Line
from tests.sweep.sweeps import experiment

pytestmark = pytest.mark.slow

EPOCHS = 3
# Dies at the second seed's checkpoint after epoch 0, once.
KILLER = """
import os, signal
from pathlib import Path
import sweep.execution.trial

MARKER = Path({marker!r})
save = sweep.execution.trial.save_checkpoint

def die_once(checkpoint, folder):
    if folder.name == {run_id!r} and not MARKER.exists():
        MARKER.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    save(checkpoint, folder)

sweep.execution.trial.save_checkpoint = die_once
"""


def setting(workdir, lr="0.05"):
    """A supervised configuration, its dataset, a store and places in it."""
    path = experiment(workdir, epochs=EPOCHS, subset=120, lrs=f"[{lr}]")
    spec, dataset = driver.load(check.check(yaml_file.read(path), str(path)))
    proposed = search.proposals(spec, [], {})
    (configuration,) = {
        p.configuration.configuration_id: p.configuration
        for p in proposed
        if p.configuration.regimen == "supervised"
    }.values()
    store = Store.create(f"sqlite:///{workdir / 'mlflow.db'}", "packs")
    places = Places(
        store=store,
        name="packs",
        storage_path=str(workdir / "storage"),
        checkpoint_seconds=0,
    )
    return configuration, dataset, store, places


def pack(store, configuration, *seeds):
    parent = store.save_configuration(configuration, {}, 0)
    return Pack(configuration=configuration, seeds=seeds, parent_run=parent)


def running(events, run_id):
    return [e.epoch for e in events if e.run_id == run_id and e.state == "running"]


def test_what_a_diverging_seed_recorded_is_stored_before_it_is_failed(workdir, monkeypatch):
    configuration, dataset, store, places = setting(workdir, lr="1e30")
    run_id = RunSpec(configuration=configuration, seed=0).run_id
    upload, fail = Store.upload, Store.fail
    spooled, stored = [], []

    def late(self, *arguments):
        time.sleep(0.3)
        upload(self, *arguments)

    def seen(self, tracking_run, *arguments, **more):
        waiting = [p for p in places.spool(run_id).rglob("*") if p.is_file()]
        spooled.append(waiting)
        stored.append({*self.files(tracking_run)})
        fail(self, tracking_run, *arguments, **more)

    monkeypatch.setattr(Store, "upload", late)
    monkeypatch.setattr(Store, "fail", seen)
    *_, last = run_pack(pack(store, configuration, 0), dataset, places)
    assert last.state == "failed"
    assert "nan" in last.reason or "inf" in last.reason
    assert spooled == [[]]
    assert {"samples.parquet", "spec.json", "dynamics/epoch=init.parquet"} <= stored[0]
    trace = store.trace(run_id)
    assert (trace.state, trace.final, trace.reason) == ("failed", True, last.reason)
    assert not places.spool(run_id).exists()


def test_a_done_seed_is_trained_again_only_for_what_it_lacks(workdir):
    configuration, dataset, store, places = setting(workdir)
    mine = pack(store, configuration, 0)
    run_id = RunSpec(configuration=configuration, seed=0).run_id
    assert store.trace(run_id) is None
    events = list(run_pack(mine, dataset, places))
    assert running(events, run_id) == [1, 2, 3]
    again = list(run_pack(mine, dataset, places))
    assert [(e.run_id, e.state, e.epoch, e.epochs) for e in again] == [(run_id, "done", 3, 3)]
    assert store.trace(run_id) == store.traces()[run_id]
    assert store.trace(run_id).state == "done"
    more = dataclasses.replace(places.recording, passes=("odin",))
    asked = dataclasses.replace(places, recording=more)
    assert running(run_pack(mine, dataset, asked), run_id) == [1, 2, 3]
    # Having more than what is asked for is enough.
    assert running(run_pack(mine, dataset, places), run_id) == []
    earlier = dataclasses.replace(more, score_epochs=(0, 2))
    asked = dataclasses.replace(places, recording=earlier)
    assert running(run_pack(mine, dataset, asked), run_id) == [1, 2, 3]


@pytest.mark.parametrize(
    ("checkpoint_seconds", "trained"), [(0, [3]), (3600, [1, 2, 3])], ids=["with", "without"]
)
def test_what_a_cut_off_run_left_in_the_spool_is_stored_by_the_next_start(
    workdir, server, monkeypatch, checkpoint_seconds, trained
):
    """With a checkpoint it goes up as it lies; without one it is made again, to the same bits."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    configuration, dataset, store, places = setting(workdir)
    run_id = RunSpec(configuration=configuration, seed=0).run_id
    assert [*run_pack(pack(store, configuration, 0), dataset, places)][-1].state == "done"
    with Line(server) as line:
        far = Store.create(line.address, f"cut off {uuid.uuid4().hex[:8]}")
        mine = pack(far, configuration, 0)
        there = dataclasses.replace(
            places,
            store=far,
            checkpoint_seconds=checkpoint_seconds,
        )
        records: Any = run_pack(mine, dataset, there)
        assert next(records).epoch == 1
        line.cut()
        assert next(records).epoch == 2
        records.close()
        assert waiting(places.spool(run_id))[0] > 0
        line.mend()
        assert running(run_pack(mine, dataset, there), run_id) == trained
        assert waiting(places.spool(run_id)) == (0, 0)
        expected, found = store.trace(run_id), far.trace(run_id)
        assert found.state == "done"
        assert manifest_of(far, found.tracking_run) == manifest_of(store, expected.tracking_run)


def test_a_lost_pack_goes_on_with_the_seed_that_was_not_done(ray_session, workdir):
    configuration, dataset, store, places = setting(workdir)
    done, lost = (RunSpec(configuration=configuration, seed=seed).run_id for seed in (0, 1))
    marker = workdir / "killed.marker"
    text = KILLER.format(marker=str(marker), run_id=lost)
    places = dataclasses.replace(places, plugins=(Plugin(path="killer.py", text=text),))
    pending, events = [[pack(store, configuration, 0, 1)]], []
    given_up = fanout.run(
        lambda: pending.pop() if pending else [],
        events.append,
        dataset=dataset,
        places=places,
        resources=Resources(),
    )
    assert marker.exists()
    assert not given_up
    assert running(events, done) == [1, 2, 3]
    assert running(events, lost)[-1] == EPOCHS
    assert {store.trace(run_id).state for run_id in (done, lost)} == {"done"}
