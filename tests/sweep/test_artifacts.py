"""Where the files of runs lie without a server: folders, MLflow's kinds of place, and fsspec's."""

import tomllib

import pytest
from conftest import ROOT
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from stores import at_once, started
from sweeps import command, experiment

from hardness.files import fingerprint
from sweep import artifacts, driver, experiment_file
from sweep.artifacts import Folder, place
from sweep.mistake import Mistake
from sweep.tracking import FsspecArtifacts, Store, TrackerError, default_uri


@pytest.mark.parametrize(
    ("value", "location"),
    [
        ("/data/runs", "file:///data/runs"),
        ("file:///data/runs", "file:///data/runs"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("wasbs://container@account.blob.core.windows.net/runs",) * 2,
        ("memory://runs", "fsspec://memory/runs"),
        ("fsspec+file:///data/runs", "fsspec://file//data/runs"),
        ("fsspec+ftp://me@host:21/runs", "fsspec://ftp/me@host:21/runs"),
        ("fsspec://file//data/runs", "fsspec://file//data/runs"),
    ],
)
def test_places_in_the_words_of_mlflow(value, location):
    assert place(value) == location
    assert place(place(value)) == location


def test_what_is_left_to_mlflow_it_knows():
    known = get_registered_artifact_repositories()
    assert known.keys() >= artifacts.MLFLOW
    assert artifacts.SCHEME in known


def test_an_installed_project_tells_mlflow_of_its_places(tmp_path):
    """As the server of ``sweep ui`` finds them, which imports nothing of ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["mlflow.artifact_repository"][artifacts.SCHEME]
    assert named == "sweep.artifacts:repository"
    found = artifacts.repository(f"fsspec://file/{tmp_path}")
    assert isinstance(found, FsspecArtifacts)
    assert found.list_artifacts() == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("nowhere://x", "expected a folder or an address of a kind that MLflow or fsspec knows"),
        ("s3://me:secret@bucket/x", "expected an address without password and options"),
        ("fsspec://ftp/me:secret@host/x", "expected an address without password and options"),
        ("https://host/x?token=secret", "expected an address without password and options"),
        ("https://host/x", "expected a place that can be written to; got https://"),
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
        experiment_file.check(experiment_file.read(path, overrides), str(path))


def test_the_store_keeps_a_place_that_can_be_read_again(workdir):
    path = experiment(workdir)
    for value in ("files", "fsspec+file:///data"):
        content = experiment_file.read(path, [f"artifacts={value}"])
        spec = experiment_file.check(content, str(path))
        kept = driver.resolved(content, spec)
        assert experiment_file.check(kept, "kept").artifacts == spec.artifacts
        assert "://" in spec.artifacts


@pytest.fixture
def folder(tmp_path):
    return Folder(f"fsspec://file/{tmp_path}/inside")


def test_files_come_back_from_any_depth(folder, tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert folder.listed() == []
    for name in ("a", "deep/er/a", "deep/b"):
        folder.put(tmp_path / "a", name)
    assert folder.listed() == [("a", 5), ("deep", None)]
    assert folder.listed("deep") == [("deep/b", 5), ("deep/er", None)]
    assert folder.listed("a") == []
    (tmp_path / "a").write_bytes(b"678")
    folder.put(tmp_path / "a", "deep/b")
    folder.get("deep/b", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"678"
    folder.remove("deep")
    assert folder.listed() == [("a", 5)]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "..", "a\\..\\..\\out"])
def test_no_name_leads_out_of_a_run(folder, tmp_path, name):
    (tmp_path / "out").write_text("not the run's")
    (tmp_path / "local").write_text("ours")
    repository = FsspecArtifacts(f"fsspec://file/{tmp_path}/inside")
    for refused in (
        lambda: folder.put(tmp_path / "local", name),
        lambda: folder.get(name, tmp_path / "local"),
        lambda: folder.listed(name),
        lambda: folder.remove(name),
    ):
        with pytest.raises(ValueError, match="inside the run's own folder"):
            refused()
    with pytest.raises(MlflowException):
        repository.log_artifact(str(tmp_path / "local"), name)
    with pytest.raises(MlflowException):
        repository.download_artifacts(name, str(tmp_path))
    assert (tmp_path / "out").read_text() == "not the run's"
    assert (tmp_path / "local").read_text() == "ours"


@pytest.fixture
def store(workdir):
    return Store.create(default_uri(), "far", place(f"fsspec+file://{workdir}/far"))


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
    assert store.local_folder(run) is None
    (kept,) = (workdir / "far" / "far").iterdir()
    assert kept.name == run
    with pytest.raises(TrackerError, match=r"nothing\.json"):
        store.download(run, "nothing.json", workdir)
    with pytest.raises(Mistake, match=r"artifacts: expected fsspec://file/.*; got memory|fsspec"):
        Store.create(store.uri, "far", place("memory://elsewhere"))
    assert Store.create(store.uri, "far").experiment_id == store.experiment_id


@pytest.mark.slow
def test_processes_find_what_others_stored(store, workdir):
    sent = at_once(store, 2, 2, workdir)
    for run in store.client.search_runs([store.experiment_id], "tags.role = 'run'"):
        files = sent[int(run.data.params["seed"])]
        assert {*store.files(run.info.run_id)} == {*files}
        for name, expected in files.items():
            assert fingerprint(store.download(run.info.run_id, name, workdir / "b")) == expected
