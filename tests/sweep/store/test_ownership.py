"""One driver a sweep, one process a run."""

import dataclasses
import os
import signal
import subprocess
import threading
import time

import pytest

from sweep.execution import driver
from sweep.execution.places import Places
from sweep.execution.trial import run_pack
from sweep.experiment import check, yaml_file
from sweep.experiment.addresses import default_uri
from sweep.experiment.runs import Pack
from sweep.planning import search
from sweep.store import ownership
from sweep.store.mlflow_store import Store
from sweep.store.ownership import Driver, SweepClaim, SweepTaken, driving
from tests.sweep.sweeps import FEW, cells, command, experiment, stored


@pytest.fixture
def store(workdir):
    return Store.create(default_uri(), "small")


@pytest.fixture
def quick(monkeypatch):
    """Claims as ever, a tenth as slow."""
    for name in ("RENEW_S", "SETTLE_S", "LIFETIME_S", "_LOOK_S"):
        monkeypatch.setattr(ownership, name, getattr(ownership, name) / 10)


def elsewhere(process):
    """The same driver as another machine's, of which only the claim is seen."""
    return dataclasses.replace(process, token="other", host="elsewhere", machine="another")


def nothing(_line):
    pass


def test_it_is_free_before_and_after(store, quick):
    assert ownership.driver(store) is None
    with driving(store, nothing):
        found = ownership.driver(store)
        assert (found.pid, found.host) == (os.getpid(), os.uname().nodename)
    assert ownership.driver(store) is None
    assert store.read_driver() == ""


def test_who_comes_second_is_told_by_whom_since_when_and_what_to_do(store, quick):
    with driving(store, nothing):
        since = ownership.driver(store).since
        with pytest.raises(
            SweepTaken, match=rf"\(pid {os.getpid()}\) has been running.*{since}.*wait"
        ):
            SweepClaim(store).take(nothing)
        assert ownership.driver(store).token == Driver.from_text(store.read_driver()).token


def test_after_kill_9_its_successor_on_the_machine_waits_for_nobody(store):
    child = subprocess.Popen(["sleep", "60"])
    store.write_driver(
        dataclasses.replace(
            Driver.here(), pid=child.pid, started=ownership._started(child.pid)
        ).to_text()
    )
    assert ownership.driver(store).pid == child.pid
    child.kill()
    # Not waited for yet: a zombie does not live.
    while ownership.driver(store):
        time.sleep(0.01)
    child.wait()
    began = time.monotonic()
    with driving(store, nothing):
        assert time.monotonic() - began < 5


def test_another_process_of_that_number_is_not_it(store, quick):
    store.write_driver(dataclasses.replace(Driver.here(), started="0").to_text())
    assert ownership.driver(store) is None
    with driving(store, nothing):
        pass


def test_one_of_another_machine_is_taken_over_once_it_renews_no_more(store, quick):
    store.write_driver(elsewhere(Driver.here()).to_text())
    said = []
    with driving(store, said.append):
        assert ownership.driver(store).pid == os.getpid()
    assert "elsewhere" in said[0]


def test_one_of_another_machine_that_renews_is_left_alone(store, quick):
    other = elsewhere(Driver.here())
    store.write_driver(other.to_text())
    renewal = threading.Timer(
        0.3, lambda: store.write_driver(dataclasses.replace(other, renewed=1).to_text())
    )
    renewal.start()
    began = time.monotonic()
    with pytest.raises(SweepTaken, match="elsewhere"):
        SweepClaim(store).take(nothing)
    assert time.monotonic() - began < ownership.LIFETIME_S
    renewal.join()


def test_text_that_is_no_claim_binds_nobody(store, quick):
    for text in ("{", "[]", "null", '{"token": "x"}'):
        store.write_driver(text)
        assert ownership.driver(store) is None
        with driving(store, nothing):
            pass


def test_of_many_that_start_at_once_one_has_it(store):
    start, held_by, refused = threading.Barrier(6), [], []

    def drive():
        mine = SweepClaim(Store(*store.address))
        start.wait()
        try:
            mine.take(nothing)
            held_by.append(mine)
        except SweepTaken:
            refused.append(mine)

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held_by), len(refused)) == (1, 5)
    held_by[0].release()


def test_a_driver_that_finds_another_in_its_place_stops(store, quick):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with driving(store, nothing) as mine:
            store.write_driver(elsewhere(Driver.here()).to_text())
            with pytest.raises(KeyboardInterrupt):
                time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)
    assert mine.taken_by.host == "elsewhere"
    # What is another's is not given back.
    assert Driver.from_text(store.read_driver()).host == "elsewhere"


@pytest.mark.slow
def test_a_tracker_that_is_away_is_no_reason_to_stop(store, quick, workdir):
    with driving(store, nothing) as mine:
        (workdir / "mlflow.db").rename(workdir / "away.db")
        time.sleep(4 * ownership.RENEW_S)
        (workdir / "mlflow.db").unlink(missing_ok=True)
        (workdir / "away.db").rename(workdir / "mlflow.db")
        time.sleep(4 * ownership.RENEW_S)
        assert mine.taken_by is None
        assert mine._thread.is_alive()


@pytest.fixture
def half_trained(workdir):
    """A sweep of one cell with its dataset and places, to be trained in this process."""
    path = experiment(workdir, epochs=4, subset=100, seeds="1", lrs="[0.1]", metrics=FEW)
    content = yaml_file.read(path, ["metrics=[aum]"])
    spec = check.check(content, str(path))
    spec, dataset = driver.load(spec)
    store = Store.create(default_uri(), "small")
    known = {"dataset_digest": spec.dataset_digest, "dataset_size": spec.dataset_size}
    store.save_sweep({**driver.resolved(content, spec), **known}, {})
    places = Places(
        store=store,
        name="small",
        storage_path=spec.storage_path,
        checkpoint_seconds=0,
    )
    proposal = search.proposals(spec, [], {})[0]
    parent = store.save_configuration(proposal.configuration, {}, 0)
    return (
        Pack(configuration=proposal.configuration, seeds=(0,), parent_run=parent),
        dataset,
        places,
    )


def test_a_run_of_a_dead_driver_is_not_called_running(half_trained):
    pack, dataset, places = half_trained
    training = run_pack(pack, dataset, places)
    next(training)
    next(training)
    store, sweep = cells("small")
    assert store.traces()[sweep.cells[0].run.run_id].state == "running"
    assert sweep.cells[0].state == "missing"
    code, out, _ = command("status", "small")
    assert code == 0
    assert "sweep run goes on" in out
    with driving(Store(*store.address), nothing):
        # Whoever takes the sweep puts in order what its predecessor left.
        assert store.traces()[sweep.cells[0].run.run_id].state == "missing"
        store.start_run(sweep.cells[0].run, pack.parent_run, {})
        assert cells("small")[1].cells[0].state == "running"
    assert cells("small")[1].cells[0].state == "missing"


def test_a_worker_whose_run_was_taken_up_by_another_stops_and_harms_nothing(half_trained):
    pack, dataset, places = half_trained
    expected = dict(stored_run(pack, dataset, dataclasses.replace(places, **another(places))))
    first = run_pack(pack, dataset, places)
    assert next(first).epoch == 1
    second = run_pack(pack, dataset, places)
    # The second goes on from the first one's checkpoint, or starts anew; both are at work now.
    assert next(second).epoch in (1, 2)
    assert list(first) == []
    assert [p.state for p in second][-1] == "done"
    store, sweep = cells("small")
    trace = sweep.cells[0].trace
    assert (trace.state, trace.epochs) == ("done", 4)
    assert stored(store, trace.tracking_run) == expected
    assert len(store.client.search_runs([store.experiment_id], "tags.role = 'run'")) == 1
    assert not places.claim(sweep.cells[0].run.run_id).exists()


def test_a_worker_that_wakes_after_its_run_is_done_leaves_it_alone(half_trained):
    pack, dataset, places = half_trained
    first = run_pack(pack, dataset, places)
    assert next(first).epoch == 1
    assert [p.state for p in run_pack(pack, dataset, places)][-1] == "done"
    store, sweep = cells("small")
    before = store.client.get_run(sweep.cells[0].trace.tracking_run).info.end_time
    assert list(first) == []
    assert cells("small")[1].cells[0].state == "done"
    assert store.client.get_run(sweep.cells[0].trace.tracking_run).info.end_time == before


def another(places):
    store = Store.create(places.store.uri, "undisturbed")
    return {
        "store": store,
        "name": store.name,
        "storage_path": f"{places.storage_path}-undisturbed",
    }


def stored_run(pack, dataset, places):
    store = places.store
    parent = store.save_configuration(pack.configuration, {}, 0)
    list(run_pack(dataclasses.replace(pack, parent_run=parent), dataset, places))
    trace = next(iter(store.traces().values()))
    return stored(store, trace.tracking_run)
