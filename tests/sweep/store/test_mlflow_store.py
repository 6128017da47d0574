"""The tracking store, on SQLite and over HTTP."""

import dataclasses
import json
import time

import pytest

from sweep.errors import Mistake, NoSuchSweep, TrackerAway, TrackerError
from sweep.experiment.addresses import default_uri
from sweep.experiment.runs import canonical_json
from sweep.store.mlflow_store import Store
from tests.sweep.stores import CONFIGURATION, RUN, Line, started

OTHER = canonical_json(dataclasses.replace(CONFIGURATION, numerics_version=2))


@pytest.fixture(params=["sqlite", "http"])
def store(request, workdir):
    if request.param == "http":
        uri = request.getfixturevalue("server")
        name = f"tracking {request.node.name}"
    else:
        uri, name = default_uri(), "tracking"
    return Store.create(uri, name)


def test_starting_twice_gives_the_same_run(store):
    first = started(store)
    assert started(store) == first
    found = store.client.get_run(first)
    assert found.data.params["train.lr"] == "0.1"
    assert found.data.params["seed"] == "3"
    tags = found.data.tags
    assert tags["run_id"] == RUN.run_id
    assert tags["configuration_id"] == CONFIGURATION.configuration_id
    assert (tags["regimen"], tags["dataset"], tags["plant"]) == ("supervised", "digits", "none")
    parent = store.client.get_run(tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["role"] == "configuration"
    assert "seed" not in parent.data.params


def test_a_replayed_epoch_leaves_one_point(store):
    run = started(store)
    for _ in range(2):
        store.log_epoch(run, 4, {"train_loss": 0.25})
    history = store.client.get_metric_history(run, "train_loss")
    assert [(m.step, m.timestamp, m.value) for m in history] == [(4, 4, 0.25)]


def test_states_of_a_run(store, tmp_path):
    run = started(store)
    assert store.traces()[RUN.run_id].state == "running"
    store.tidy()
    assert store.traces()[RUN.run_id].state == "missing"
    started(store)
    store.fail(run, "the training loss became nan in epoch 0", final=True)
    failed = store.traces()[RUN.run_id]
    assert (failed.state, failed.final) == ("failed", True)
    assert failed.reason == "the training loss became nan in epoch 0"
    started(store)
    store.log_epoch(run, 0, {"val_accuracy": 0.5})
    store.finish(run)
    unproven = store.traces()[RUN.run_id]
    assert unproven.state == "missing"
    assert "manifest" in unproven.reason


def test_a_file_that_is_not_there_is_refused_at_once(store, tmp_path):
    store.patience_s = 60
    run, began = started(store), time.monotonic()
    with pytest.raises(TrackerError) as refused:
        store.download(run, "dynamics/epoch=0007.parquet", tmp_path)
    assert not isinstance(refused.value, TrackerAway)
    assert time.monotonic() - began < 30
    assert [*tmp_path.rglob("*.parquet")] == []


def test_a_server_is_asked_twice_for_a_file_and_once_for_its_place(tracker, tmp_path):
    name = "asked twice"
    run = started(Store.create(tracker.uri, name))
    for number in range(3):
        (tmp_path / f"{number}.json").write_text("{}")
        Store.find(tracker.uri, name).upload(run, tmp_path / f"{number}.json", f"{number}.json")
    store, log = Store.find(tracker.uri, name), tracker.folder / "log"
    before = log.read_text().count("HTTP/1.1")
    for number in range(3):
        store.download(run, f"{number}.json", tmp_path / "there")
    assert log.read_text().count("HTTP/1.1") - before == 1 + 2 * 3


def test_a_tracker_that_goes_away_while_a_file_is_fetched_is_away(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name = "goes away"
    store = Store.create(server, name)
    run = started(store)
    (tmp_path / "spec.json").write_text("{}")
    store.upload(run, tmp_path / "spec.json", "spec.json")
    with Line(server, b"/artifacts/spec.json ") as line:
        far = Store.find(line.address, name)
        with pytest.raises(TrackerAway):
            far.read_text(run, "spec.json")
        line.word = None
        line.mend()
        assert far.read_text(run, "spec.json") == "{}"


def test_the_resolved_file_is_kept_once(store):
    store.save_sweep({"name": "a", "seeds": 5}, {})
    store.save_sweep({"name": "a", "seeds": 8}, {})
    assert store.read_sweep() == {"name": "a", "seeds": 8}
    runs = store.client.search_runs([store.experiment_id], "tags.role = 'sweep'")
    assert len(runs) == 1


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 99999, "\xff\xfe"])
def test_an_experiment_that_others_wrote_is_told_in_a_line(store, tmp_path, text):
    store.save_sweep({"name": "a"}, {})
    run = store.sweep_run()[0]
    (tmp_path / "experiment.json").write_text(text, encoding="latin-1")
    store.upload(run, tmp_path / "experiment.json", "experiment.json")
    expected = f"expected an experiment in experiment.json of MLflow run {run}, as sweep wrote it"
    with pytest.raises(Mistake, match=expected):
        store.read_sweep()


@pytest.mark.parametrize("tag", ["configuration", "parameters", "number"])
@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"a": 1}', "1e999", "[" * 4999, OTHER])
def test_tags_that_others_wrote_are_told_in_a_line(store, tag, text):
    run = store.save_configuration(CONFIGURATION, {"train.lr": 0.1}, 0)
    store.set_tags(run, {tag: text})
    if tag == "parameters" and text.startswith("{"):
        assert store.configurations()[0].parameters == json.loads(text)
    else:
        with pytest.raises(Mistake, match=f"a configuration in its tags of MLflow run {run}, as"):
            store.configurations()


def test_a_number_of_epochs_that_is_none_counts_as_no_epoch(store):
    run = started(store)
    store.log_metrics(run, {"epoch": float("nan")})
    assert store.trace(RUN.run_id).epochs == 0


def test_an_unknown_sweep_names_the_known_ones(workdir):
    Store.create(default_uri(), "known-one")
    with pytest.raises(NoSuchSweep, match=r"no sweep named 'other'.*known: known-one"):
        Store.find(default_uri(), "other")


def test_looking_creates_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoSuchSweep, match="no tracking store"):
        Store.find(default_uri(), "any")
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_not_there_is_named_at_once():
    with pytest.raises(TrackerError, match=r"http://127\.0\.0\.1:1 does not answer"):
        Store.create("http://127.0.0.1:1", "any")


def test_a_file_store_is_refused():
    with pytest.raises(TrackerError, match="expected sqlite:/// or http"):
        Store.create("file:///somewhere", "any")


def doubled(store):
    """Two runs of one ``RunSpec``, as a transport that asks twice leaves them, oldest first."""
    first = started(store)
    tags = store.client.get_run(first).data.tags
    ours = {k: v for k, v in tags.items() if not k.startswith("mlflow.") or "parent" in k}
    return first, store._new("seed 3", ours)


@pytest.mark.parametrize("tidied", [True, False])
def test_of_two_runs_of_one_identity_the_oldest_counts(store, tidied):
    first, second = doubled(store)
    if tidied:
        store.tidy()
        assert store.client.get_run(first).info.status == "KILLED"
    else:
        assert store.traces()[RUN.run_id].tracking_run == first
        assert started(store) == first
    assert store.trace(RUN.run_id).tracking_run == first
    other = store.client.get_run(second)
    assert (other.info.status, other.data.tags["role"]) == ("KILLED", "duplicate")
    assert other.data.tags["duplicate_of"] == first
    assert list(store.traces()) == [RUN.run_id]


def test_of_two_runs_of_one_identity_a_finished_one_counts(store):
    _, second = doubled(store)
    store.finish(second)
    assert store.trace(RUN.run_id).tracking_run == second
    assert started(store) == second


def test_a_store_waits_for_a_tracker_as_long_as_it_is_told(monkeypatch):
    store, impatient = (Store("http://127.0.0.1:1", "1", "away", wait) for wait in (3, 0))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for one, least, most in ((impatient, 0, 2), (store, 3, 20)):
        began = time.monotonic()
        with pytest.raises(TrackerAway, match=r"127\.0\.0\.1"):
            one.traces()
        assert least <= time.monotonic() - began < most


def test_what_a_tracker_refuses_is_not_asked_again(workdir):
    store = Store.create(default_uri(), "refused")
    store.patience_s = 60
    began = time.monotonic()
    with pytest.raises(TrackerError, match="not found"):
        store.finish("0" * 32)
    assert time.monotonic() - began < 30
