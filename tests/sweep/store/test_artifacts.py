"""Where the files of runs lie without a server: folders, and the kinds of address MLflow knows."""

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

from hardness.files import fingerprint
from sweep.errors import Mistake, TrackerError
from sweep.execution import driver
from sweep.experiment import addresses, check, yaml_file
from sweep.experiment.addresses import default_uri, place
from sweep.store.mlflow_store import Store
from tests.sweep.stores import at_once, started
from tests.sweep.sweeps import command, experiment


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("/data/runs", "file:///data/runs"),
        ("file:///data/runs", "file:///data/runs"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("wasbs://container@account.blob.core.windows.net/runs",) * 2,
    ],
)
def test_a_folder_becomes_an_address_and_an_address_stays(value, address):
    assert place(value) == address
    assert place(place(value)) == address


def test_mlflow_knows_every_kind_of_address_that_is_accepted():
    assert get_registered_artifact_repositories().keys() >= addresses.MLFLOW


KIND = "expected a folder or an address of a kind that MLflow knows, such as s3://bucket/folder"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("nowhere://x", f"artifacts: {KIND}; got nowhere://"),
        ("memory://x", f"artifacts: {KIND}; got memory://"),
        ("fsspec://file//data/runs", f"artifacts: {KIND}; got fsspec://"),
        ("https://host/x", f"artifacts: {KIND}; got https://"),
        ("s3://me:secret@bucket/x", "expected an address without password and options"),
        ("ftp://me:secret@host/x", "expected an address without password and options"),
        ("https://host/x?token=secret", "expected an address without password and options"),
        ("''", "expected a folder or an address; got ''"),
        ("[s3://me:secret@bucket]", "artifacts: expected text"),
    ],
)
def test_a_place_that_cannot_be_is_refused(value, told, workdir):
    code, out, err = command("run", experiment(workdir), f"artifacts={value}", "--dry-run")
    assert code == 2
    assert "artifacts" in err
    assert told in err
    assert "secret" not in out + err


def test_a_server_keeps_files_itself(workdir):
    path = experiment(workdir)
    overrides = ["artifacts=/data", "tracking_uri=http://127.0.0.1:1"]
    with pytest.raises(Mistake, match="artifacts: expected none with an MLflow server"):
        check.check(yaml_file.read(path, overrides), str(path))


def test_the_store_keeps_a_place_that_can_be_read_again(workdir):
    path = experiment(workdir)
    for value in ("files", "s3://bucket/runs"):
        content = yaml_file.read(path, [f"artifacts={value}"])
        spec = check.check(content, str(path))
        kept = driver.resolved(content, spec)
        assert check.check(kept, "kept").artifacts == spec.artifacts
        assert "://" in spec.artifacts


@pytest.fixture
def store(workdir):
    return Store.create(default_uri(), "far", place(f"{workdir}/far"))


def test_a_store_keeps_files_there(store, workdir):
    run = started(store)
    (workdir / "spec.json").write_text('{"a": 1}')
    (workdir / "made").mkdir()
    (workdir / "made" / "figures").mkdir()
    (workdir / "made" / "figures" / "f.png").write_bytes(b"png")
    (workdir / "made" / "t.csv").write_text("a,b")
    store.upload(run, workdir / "spec.json", "dynamics/spec.json")
    store.upload_folder(run, workdir / "made")
    assert store.files(run) == {"dynamics/spec.json": 8, "figures/f.png": 3, "t.csv": 3}
    assert store.read_text(run, "dynamics/spec.json") == '{"a": 1}'
    (kept,) = (workdir / "far" / "far").iterdir()
    assert kept.name == run
    assert store.local_folder(run) == kept / "artifacts"
    with pytest.raises(TrackerError, match=r"nothing\.json"):
        store.download(run, "nothing.json", workdir)
    with pytest.raises(Mistake, match=r"artifacts: expected file:///.*; got s3://elsewhere/far"):
        Store.create(store.uri, "far", place("s3://elsewhere"))
    assert Store.create(store.uri, "far").experiment_id == store.experiment_id


@pytest.mark.slow
def test_processes_find_what_others_stored(store, workdir):
    sent = at_once(store, 2, 2, workdir)
    for run in store.client.search_runs([store.experiment_id], "tags.role = 'run'"):
        files = sent[int(run.data.params["seed"])]
        assert {*store.files(run.info.run_id)} == {*files}
        for name, expected in files.items():
            assert fingerprint(store.download(run.info.run_id, name, workdir / "b")) == expected
