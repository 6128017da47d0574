"""A sweep copied from one store into another, whole, cut off, and once more."""

import os
import shutil
import subprocess
import sys
import uuid

import numpy as np
import pytest

from hardness.dynamics.folder import Manifest, epoch_file, write_epoch, write_manifest, write_spec
from hardness.dynamics.record import INIT, EpochRecord
from hardness.files import fingerprint
from sweep.errors import Mistake, NoSuchSweep
from sweep.experiment.addresses import OFFLINE, located
from sweep.experiment.runs import RunSpec
from sweep.store import syncing
from sweep.store.mlflow_store import Store
from sweep.store.run_store import manifest_of
from tests.sweep.stores import CONFIGURATION, started
from tests.sweep.sweeps import FEW, cells, command, experiment

DONE, FAILED, LOST, HALF = (RunSpec(configuration=CONFIGURATION, seed=seed) for seed in range(4))
EPOCHS = 3


def trained(store, run, folder, *, epochs=EPOCHS, done=True):
    """A run whose every epoch is stored, with numbers of its own."""
    folder = folder / uuid.uuid4().hex
    tracking_run = started(store, run)
    names = [write_spec(folder, {"run_id": run.run_id})]
    for epoch in range(INIT, epochs):
        loss = np.random.default_rng([run.seed, epoch + 1]).normal(size=50)
        names += write_epoch(folder, EpochRecord(epoch=epoch, signals={"loss": loss}, summary={}))
        if epoch > INIT:
            summary = {"train_loss": run.seed + 1 / (epoch + 1), "val_loss": float("nan")}
            store.log_epoch(tracking_run, epoch, summary)
    files = {name: fingerprint(folder / name) for name in names}
    if done:
        names.append(
            write_manifest(folder, Manifest(epochs=epochs, rows=50, signals=("loss",), files=files))
        )
    for name in names:
        store.upload(tracking_run, folder / name, name)
    if done:
        store.finish(tracking_run)
    return tracking_run


@pytest.fixture
def offline(workdir):
    """A store with one run of each state."""
    (workdir / "sweeps").mkdir()
    shutil.copy(workdir / "mlflow.db", workdir / "sweeps" / "offline.db")
    store = Store.create(located(OFFLINE), "carried")
    store.save_sweep({"name": "carried", "tracking_uri": OFFLINE}, {"git_commit": "abc"})
    trained(store, DONE, workdir)
    store.fail(trained(store, FAILED, workdir, done=False), "it became nan", final=True)
    store.fail(started(store, LOST), "given up: lost", final=False)
    trained(store, HALF, workdir, done=False)
    return store


@pytest.fixture
def elsewhere(server, monkeypatch):
    """A store of the same sweep on a server, and what is uploaded to it."""
    store = Store.create(server, f"carried {uuid.uuid4().hex[:8]}")
    uploads, upload = [], Store.upload

    def counted(self, tracking_run, path, name):
        upload(self, tracking_run, path, name)
        if self is store:
            uploads.append((tracking_run, name))

    monkeypatch.setattr(Store, "upload", counted)
    return store, uploads


def runs(store):
    """Everything of every run, by run id; NaN as text, since it equals nothing."""
    found = {}
    for run in store.client.search_runs([store.experiment_id], "tags.role = 'run'"):
        run_id = run.data.tags["run_id"]
        assert run_id not in found
        whole = store.tracked(run.info.run_id)
        tags = {k: v for k, v in whole.tags.items() if k != "adopted"}
        state = "KILLED" if run.info.status == "RUNNING" else run.info.status
        points = sorted((k, str(v), t, s) for k, v, t, s in whole.points)
        shape = (whole.name, state, whole.started_ms, whole.params, tags, points)
        found[run_id] = *shape, store.files(run.info.run_id)
    return found


def test_all_of_a_sweep_is_carried_once(offline, elsewhere, tmp_path):
    target, uploads = elsewhere
    said = []
    synced = syncing.sync(offline, target, said.append)
    assert synced.whole
    assert synced.line.startswith(
        "carried 1 done and 2 failed and 1 unfinished of 4 runs, 16 files"
    )
    assert len(said) == 4
    assert "1/4 supervised" in said[0]
    assert "seed 0: done, 6 files" in said[0]
    assert runs(target) == runs(offline)
    assert target.read_sweep() == {"name": "carried"}
    assert target.sweep_run()[1] == {"git_commit": "abc"}
    (known,) = target.configurations()
    assert known.configuration == CONFIGURATION
    assert known.parameters == {"train.lr": 0.1}
    traces = target.traces()
    for run in (DONE, FAILED, LOST, HALF):
        found = target.client.get_run(traces[run.run_id].tracking_run)
        assert found.data.tags["mlflow.parentRunId"] == known.tracking_run
    assert [traces[r.run_id].state for r in (DONE, FAILED, LOST, HALF)] == [
        "done", "failed", "failed", "missing",
    ]  # fmt: skip
    assert manifest_of(target, traces[DONE.run_id].tracking_run) == manifest_of(
        offline, offline.traces()[DONE.run_id].tracking_run
    )
    # Of a run its manifest goes last.
    assert [name for _, name in uploads if "manifest" in name or name == epoch_file(2)][:2] == [
        epoch_file(2), "manifest.json",
    ]  # fmt: skip

    sent, uploads[:] = [*uploads], []
    again = syncing.sync(offline, target, said.append)
    assert again.whole
    assert again.line.startswith("carried 1 unfinished of 4 runs, 0 files, 0.0 MiB; 3 there")
    assert uploads == []
    assert len(sent) == 16
    assert runs(target) == runs(offline)

    # From any store into any other one.
    back = Store.create(f"sqlite:///{tmp_path / 'mlflow.db'}", "carried")
    assert syncing.sync(target, back, said.append).whole
    assert runs(back) == runs(offline)
    with pytest.raises(Mistake, match="--to: expected another store"):
        syncing.sync(back, back, said.append)


def test_one_that_was_cut_off_goes_on(offline, elsewhere, monkeypatch):
    target, uploads = elsewhere
    counted = Store.upload

    def cut(self, *arguments):
        if len(uploads) == 4:
            raise KeyboardInterrupt
        counted(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "upload", cut)
        with pytest.raises(KeyboardInterrupt):
            syncing.sync(offline, target, lambda _line: None)
    trace = target.traces()[DONE.run_id]
    assert trace.state == "missing"
    assert syncing.sync(offline, target, lambda _line: None).whole
    assert len(uploads) == len({*uploads}) == 16
    assert runs(target) == runs(offline)


def test_what_goes_on_offline_goes_on_there(offline, elsewhere, tmp_path):
    target, uploads = elsewhere
    syncing.sync(offline, target, lambda _line: None)
    uploads.clear()
    trained(offline, HALF, tmp_path, epochs=5)
    offline.save_sweep({"name": "carried", "seeds": 9}, {})
    synced = syncing.sync(offline, target, lambda _line: None)
    assert synced.line.startswith("carried 1 done of 4 runs, 3 files")
    assert [name for _, name in uploads] == [epoch_file(3), epoch_file(4), "manifest.json"]
    assert target.read_sweep()["seeds"] == 9
    assert runs(target) == runs(offline)


def test_what_is_better_known_there_is_left_alone(offline, elsewhere, tmp_path):
    target, _ = elsewhere
    done = trained(target, DONE, tmp_path)
    trained(target, FAILED, tmp_path)
    started(target, LOST)
    half = trained(target, HALF, tmp_path, epochs=1, done=False)
    target.client.set_terminated(half, "KILLED")
    before = runs(target)
    said = []
    synced = syncing.sync(offline, target, said.append)
    assert not synced.whole
    assert synced.line == (
        "carried none of 4 runs, 0 files, 0.0 MiB; 2 there already; 2 left aside"
    )
    assert [line.partition("left aside, ")[2] for line in said] == [
        "it is being trained there; sync again once it is not", "it is half-trained here and there",
    ]  # fmt: skip
    assert runs(target) == before
    assert target.traces()[DONE.run_id].tracking_run == done


def test_a_damaged_run_is_not_carried_as_done(offline, elsewhere):
    target, _ = elsewhere
    folder = offline.local_folder(offline.traces()[DONE.run_id].tracking_run)
    path = folder / epoch_file(1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    said = []
    assert not syncing.sync(offline, target, said.append).whole
    assert f"left aside, {epoch_file(1)}: expected the digest in the manifest" in said[0]
    assert target.traces()[DONE.run_id].state == "missing"


def test_what_was_trained_offline_is_found_without_its_address(offline, workdir):
    assert Store.known_as(None, "carried").uri == offline.uri
    with pytest.raises(NoSuchSweep, match="no sweep named 'other'"):
        Store.known_as(None, "other")
    with pytest.raises(NoSuchSweep):
        Store.known_as(f"sqlite:///{workdir / 'mlflow.db'}", "carried")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_sweep_without_a_tracker_is_done_once_for_all_trackers(workdir, server):
    name = f"offline-{uuid.uuid4().hex[:8]}"
    path = experiment(workdir, name=name, epochs=2, lrs="[0.1]", subset=100, metrics=FEW)
    places = ("tracking_uri=offline", f"artifacts={workdir}/far")
    code, _, err = command("run", path, *places, "--no-aggregate")
    assert code == 0, err
    assert (workdir / "sweeps" / "offline.db").is_file()
    assert (workdir / "far" / name).is_dir()
    assert not (workdir / "sweeps" / "mlartifacts").exists()
    code, out, err = command("status", name, "--tracking-uri", "offline")
    assert code == 0, err
    code, out, err = command("sync", name, "--to", server)
    assert code == 0, err
    assert "carried 4 done of 4 runs" in out
    assert f"sweep aggregate {name} --tracking-uri {server}" in out
    before = {c.run.run_id: c.trace for c in cells(name, server)[1].cells}
    assert {t.state for t in before.values()} == {"done"}
    code, _, err = command("run", path, f"tracking_uri={server}", "--no-aggregate")
    assert code == 0, err
    assert {c.run.run_id: c.trace for c in cells(name, server)[1].cells} == before


NODES = """
import os, sys
from ray.cluster_utils import Cluster
from sweep import cli
from sweep.execution import fanout

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
os.environ["RAY_ADDRESS"] = cluster.address
try:
    with fanout.session():
        assert fanout.alone()
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        cli.main(["run", sys.argv[1], "tracking_uri=offline"])
finally:
    cluster.shutdown()
"""


@pytest.mark.slow
def test_several_nodes_have_no_store_offline(workdir):
    path = experiment(workdir, epochs=1, metrics=FEW)
    (workdir / "sweeps").mkdir()
    shutil.copy(workdir / "mlflow.db", workdir / "sweeps" / "offline.db")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", NODES, path],
        env=environment | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("sweep: ")]
    assert said.startswith("sweep: tracking_uri: expected http://HOST:PORT of an MLflow server")
    assert Store.find(located(OFFLINE), "small").traces() == {}
