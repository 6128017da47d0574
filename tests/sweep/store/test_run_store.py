"""What every store of runs does alike: MLflow on SQLite and over HTTP, and plain folders."""

import json
import pickle
import uuid

import numpy as np
import pytest

from hardness.dynamics.folder import Manifest, write_epoch
from hardness.dynamics.record import EpochRecord
from hardness.files import Damaged, fingerprint
from sweep.experiment.addresses import default_uri
from sweep.experiment.runs import Cell
from sweep.store.mlflow_store import Store
from sweep.store.run_folders import RunFolders, TrainingFolders
from sweep.store.run_store import manifest_of
from tests.sweep.stores import CONFIGURATION, RUN, numbers

EPOCH = "dynamics/epoch=0000.parquet"
OUTSIDE = ["../out", "dynamics/../../out", "/etc/passwd", "..", "a\\..\\..\\out", ""]


@pytest.fixture(params=["sqlite", "http", "folders"])
def store(request, workdir):
    if request.param == "folders":
        return TrainingFolders(workdir / "runs")
    if request.param == "http":
        return Store.create(request.getfixturevalue("server"), f"alike {uuid.uuid4().hex[:8]}")
    return Store.create(default_uri(), "alike")


def begun(store):
    """A run that was just started."""
    tracked = isinstance(store, Store)
    parent = store.save_configuration(CONFIGURATION, {"train.lr": 0.1}, 0) if tracked else ""
    return store.start_run(RUN, parent, {})


def sent(store, run, folder, name, content):
    """Store a file of this content."""
    path = folder / name.rpartition("/")[2]
    path.write_bytes(content)
    store.upload(run, path, name)


def with_manifest(store, run, folder):
    """A run with its one epoch and a manifest; not finished yet."""
    loss, summary = np.array([0.5, 0.25]), numbers(RUN.seed, 0)
    record = EpochRecord(epoch=0, signals={"loss": loss}, summary=summary)
    write_epoch(folder, record)
    manifest = Manifest(
        epochs=1,
        rows=2,
        signals=("loss",),
        files={EPOCH: fingerprint(folder / EPOCH)},
        passes={"odin": (0,)},
    )
    store.upload(run, folder / EPOCH, EPOCH)
    store.log_epoch(run, 0, summary)
    sent(store, run, folder, "manifest.json", manifest.to_json().encode())
    return manifest


class TestRunStore:
    def test_a_run_that_nobody_started_has_no_trace(self, store):
        assert store.trace(RUN.run_id) is None

    def test_starting_twice_gives_the_same_run_which_is_not_done(self, store):
        run = begun(store)
        assert begun(store) == run
        trace = store.trace(RUN.run_id)
        assert trace.tracking_run == run
        assert Cell(run=RUN, trace=trace).state in ("running", "missing")
        assert store.files(run) == {}

    def test_a_file_comes_back_as_it_went(self, store, tmp_path):
        run = begun(store)
        for name in ("spec.json", "dynamics/spec.json"):
            sent(store, run, tmp_path, name, b"{}")
            sent(store, run, tmp_path, name, b'{"newer": 1}')
            assert store.read_text(run, name) == '{"newer": 1}'
            fetched = store.download(run, name, tmp_path / "there")
            assert fetched == tmp_path / "there" / name
            assert fetched.read_bytes() == b'{"newer": 1}'
        assert store.files(run) == {"spec.json": 12, "dynamics/spec.json": 12}

    def test_a_file_that_is_missing_is_named(self, store, tmp_path):
        run = begun(store)
        with pytest.raises(OSError, match=r"epoch=0000\.parquet"):
            store.download(run, EPOCH, tmp_path)
        with pytest.raises(OSError, match=r"spec\.json"):
            store.read_text(run, "spec.json")
        assert [path for path in tmp_path.rglob("*.parquet") if path.is_file()] == []

    @pytest.mark.parametrize("name", OUTSIDE)
    def test_no_name_leads_out_of_a_run(self, store, tmp_path, name):
        run = begun(store)
        (tmp_path / "out").write_text("not the run's")
        for refused in (
            lambda: store.upload(run, tmp_path / "out", name),
            lambda: store.download(run, name, tmp_path / "there"),
            lambda: store.read_text(run, name),
        ):
            with pytest.raises(ValueError, match="expected a name inside the run's own folder"):
                refused()
        assert (tmp_path / "out").read_text() == "not the run's"
        assert store.files(run) == {}

    def test_a_finished_run_says_what_it_recorded(self, store, tmp_path):
        run = begun(store)
        manifest = with_manifest(store, run, tmp_path)
        store.finish(run)
        assert manifest_of(store, run) == manifest
        trace = store.trace(RUN.run_id)
        assert Cell(run=RUN, trace=trace).state == "done"
        assert (trace.signals, trace.passes, trace.epochs) == ({"loss"}, {"odin": (0,)}, 1)
        assert trace.objectives.items() >= numbers(RUN.seed, 0).items()

    def test_done_only_while_every_file_of_the_manifest_is_there(self, store, tmp_path):
        run = begun(store)
        with_manifest(store, run, tmp_path)
        store.finish(run)
        whole = (tmp_path / EPOCH).read_bytes()
        sent(store, run, tmp_path, EPOCH, b"cut")
        trace = store.trace(RUN.run_id)
        assert trace.state == "missing"
        assert f"{len(whole)} bytes; got 3 in the store" in trace.reason
        sent(store, run, tmp_path, EPOCH, whole)
        assert store.trace(RUN.run_id).state == "done"

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (None, r"no manifest\.json"),
            ("{", "expected a manifest; got"),
            ("[" * 99_999, "expected a manifest; got"),
            ({"epochs": 0}, "expected at least 1 epoch"),
            (
                {"files": {"../out": {"bytes": 1, "sha256": ""}}},
                "expected files of a run; got '../out'",
            ),
            (
                {"files": {EPOCH: {"bytes": 7, "sha256": ""}}},
                f"{EPOCH}: expected 7 bytes; got None in the store",
            ),
        ],
    )
    def test_a_damaged_manifest_is_told_and_the_run_counts_as_missing(
        self, store, tmp_path, content, told
    ):
        run = begun(store)
        if isinstance(content, dict):
            whole = {"epochs": 1, "rows": 1, "signals": ["loss"], "files": {}}
            content = json.dumps(whole | content)
        if content is not None:
            sent(store, run, tmp_path, "manifest.json", content.encode())
        store.finish(run)
        with pytest.raises(Damaged, match=told):
            manifest_of(store, run)
        assert store.trace(RUN.run_id).state == "missing"

    @pytest.mark.parametrize("final", [True, False])
    def test_a_failed_run_says_why_until_it_is_started_again(self, store, tmp_path, final):
        run = begun(store)
        with_manifest(store, run, tmp_path)
        store.fail(run, "the training loss became nan in epoch 0", final=final)
        failed = store.trace(RUN.run_id)
        assert (failed.state, failed.final) == ("failed", final)
        assert failed.reason == "the training loss became nan in epoch 0"
        assert begun(store) == run
        assert store.trace(RUN.run_id).state != "failed"

    def test_a_local_folder_holds_the_files(self, store, tmp_path):
        run = begun(store)
        sent(store, run, tmp_path, EPOCH, b"0123")
        folder = store.local_folder(run)
        if isinstance(store, Store) and store.uri.startswith("http"):
            assert folder is None
        else:
            assert (folder / EPOCH).read_bytes() == b"0123"

    def test_a_store_travels_to_another_process(self, store, tmp_path):
        run = begun(store)
        sent(store, run, tmp_path, "spec.json", b"{}")
        again = pickle.loads(pickle.dumps(store))
        assert again.address == store.address
        assert again.read_text(run, "spec.json") == "{}"


def test_nothing_is_written_into_a_folder_that_others_recorded(tmp_path):
    (tmp_path / "spec.json").write_text("{}")
    RunFolders().fail(str(tmp_path), "damaged", final=False)
    assert RunFolders().files(str(tmp_path)) == {"spec.json": 2}
