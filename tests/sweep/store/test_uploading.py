"""The spool and the thread that empties it, before a tracker that goes away and comes back."""

import threading
import time

import numpy as np
import pytest

from hardness.dynamics.folder import epoch_file, write_epoch
from hardness.dynamics.record import EpochRecord
from sweep.errors import TrackerError
from sweep.execution import driver, status
from sweep.execution.places import spool
from sweep.experiment import check, yaml_file
from sweep.experiment.addresses import default_uri
from sweep.report import status_table
from sweep.store.mlflow_store import Store
from sweep.store.uploading import Uploader, patiently, waiting
from tests.sweep.stores import Line, started, until
from tests.sweep.sweeps import FEW, experiment

EPOCHS = 6


@pytest.fixture
def line(server, monkeypatch):
    """The way to the tracker, which a test may cut and mend."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Line(server) as line:
        yield line


@pytest.fixture
def store(line, request):
    return Store.create(line.address, f"uploading {request.node.name}")


def spooled(folder, epoch):
    """An epoch of one signal, as a run spools it: its files and its numbers."""
    loss = np.random.default_rng(epoch).normal(size=1000)
    summary = {"train_loss": 1 / (epoch + 1)}
    return write_epoch(
        folder, EpochRecord(epoch=epoch, signals={"loss": loss}, summary=summary)
    ), summary


def put(uploader, folder, epoch):
    files, summary = spooled(folder, epoch)
    uploader.put(files, epoch=epoch, summary=summary)


def assert_all_is_stored(store, run, epochs):
    assert {*store.files(run)} == {epoch_file(e) for e in range(epochs)}
    history = store.client.get_metric_history(run, "train_loss")
    assert sorted((m.step, m.value) for m in history) == [(e, 1 / (e + 1)) for e in range(epochs)]


def test_a_tracker_that_is_down_stops_no_training_and_loses_nothing(line, store, tmp_path):
    run = started(store)
    with Uploader(store, run, tmp_path, patience_s=60) as uploader:
        put(uploader, tmp_path, 0)
        until(lambda: not waiting(tmp_path)[0])
        line.cut()
        began = time.monotonic()
        for epoch in range(1, EPOCHS):
            put(uploader, tmp_path, epoch)
        assert time.monotonic() - began < 1
        files, nbytes = waiting(tmp_path)
        assert files == EPOCHS - 1
        assert nbytes == sum(p.stat().st_size for p in tmp_path.rglob("*.parquet"))
        line.mend()
    assert waiting(tmp_path) == (0, 0)
    assert_all_is_stored(store, run, EPOCHS)


def test_a_full_spool_makes_training_wait_instead_of_growing(line, store, tmp_path):
    run = started(store)
    size = (tmp_path / spooled(tmp_path, 0)[0][0]).stat().st_size
    line.cut()
    most = []

    def training():
        with Uploader(store, run, tmp_path, spool_bytes=2.5 * size, patience_s=60) as uploader:
            for epoch in range(EPOCHS):
                put(uploader, tmp_path, epoch)
                most.append(waiting(tmp_path)[1])

    thread = threading.Thread(target=training)
    thread.start()
    until(lambda: waiting(tmp_path)[0] == 3)
    time.sleep(0.3)
    # The third epoch lies there, and the training waits before the fourth.
    assert (waiting(tmp_path)[0], len(most)) == (3, 2)
    line.mend()
    thread.join(60)
    assert max(most) <= 2.5 * size
    assert waiting(tmp_path) == (0, 0)
    assert_all_is_stored(store, run, EPOCHS)


@pytest.mark.parametrize("waits_for", ["the end", "room"])
def test_patience_counts_only_while_nothing_trains(line, store, tmp_path, waits_for):
    run = started(store)
    line.cut()
    room = 0 if waits_for == "room" else 1e9
    uploader = Uploader(store, run, tmp_path, spool_bytes=room, patience_s=0.5)
    files, summary = spooled(tmp_path, 0)
    if waits_for == "room":
        with pytest.raises(TrackerError):
            uploader.put(files, epoch=0, summary=summary)
    else:
        uploader.put(files, epoch=0, summary=summary)
        time.sleep(1)
        put(uploader, tmp_path, 1)
        with pytest.raises(TrackerError):
            uploader.close()
    assert waiting(tmp_path)[0] == (1 if waits_for == "room" else 2)
    # What stayed in the spool goes up with the next start.
    line.mend()
    with Uploader(store, run, tmp_path) as again:
        for name in sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parquet")):
            again.put([name])
    assert waiting(tmp_path) == (0, 0)


def test_a_training_that_is_told_to_stop_leaves_no_thread_behind(line, store, tmp_path):
    run = started(store)
    line.cut()
    uploader = Uploader(store, run, tmp_path)
    put(uploader, tmp_path, 0)
    uploader.__exit__(KeyboardInterrupt)
    uploader._thread.join(10)
    assert not uploader._thread.is_alive()
    assert waiting(tmp_path)[0] == 1


@pytest.mark.parametrize("nothing_waits", [True, False])
def test_storage_that_fails_leaves_no_upload_under_way(line, store, tmp_path, nothing_waits):
    """The next attempt of the same process writes the same files, and nobody drops them."""
    run = started(store)
    uploader = Uploader(store, run, tmp_path)
    put(uploader, tmp_path, 0)
    if nothing_waits:
        until(lambda: not uploader.waits)
    uploader.__exit__(OSError)
    assert not uploader._thread.is_alive()
    files, _ = spooled(tmp_path, 0)
    time.sleep(0.3)
    assert all((tmp_path / name).exists() for name in files)


def test_a_file_that_vanished_is_not_waited_for(line, store, tmp_path):
    run = started(store)
    uploader = Uploader(store, run, tmp_path)
    line.cut()
    put(uploader, tmp_path, 0)
    (tmp_path / epoch_file(0)).unlink()
    with pytest.raises(FileNotFoundError):
        uploader.close()


def test_asking_patiently_outlasts_an_outage(line, store):
    line.cut()
    with pytest.raises(TrackerError):
        patiently(store.traces, patience_s=0.1)
    threading.Timer(0.5, line.mend).start()
    assert patiently(store.traces) == {}


def test_status_says_what_waits_and_of_which_cells(workdir, capsys):
    path = experiment(workdir, name="waits", lrs="[0.1]", seeds="2", metrics=FEW)
    spec, _ = driver.load(check.check(yaml_file.read(path), str(path)))
    sweep = status.look(spec, Store.create(default_uri(), "waits"))
    assert status_table.status(sweep)["waiting_files"].isna().all()
    first = sweep.cells[0].run
    folder = spool(spec.storage_path, first.run_id)
    for epoch in range(3):
        spooled(folder, epoch)
    (folder / "dynamics" / "epoch=0003.parquet.partial").write_bytes(b"half")
    table = status_table.status(sweep).set_index("run_id")
    assert table["waiting_files"].tolist() == [3, 0, 0, 0]
    mib = waiting(folder)[1] / 2**20
    assert table.loc[first.run_id, "waiting_mib"] == pytest.approx(mib, abs=1e-3)
    status_table.print_status(sweep)
    out = capsys.readouterr().out
    assert f"waiting to be uploaded: 3 files, {mib:.1f} MiB" in out
    who = f"{first.configuration.regimen} {first.configuration.configuration_id} seed {first.seed}"
    assert f"  {who}: 3 files, {mib:.1f} MiB" in out
