"""A tracker's password is printed, logged and stored nowhere."""

import base64
import io
import pickle
import shutil
import traceback
import uuid
from pathlib import Path

import pytest

from hardness.dynamics.record import Recording
from sweep.errors import TrackerError, hidden
from sweep.execution.places import Places
from sweep.store.mlflow_store import Store
from tests.sweep.stores import CONFIGURATION, RUN
from tests.sweep.sweeps import command

SECRET = "7hCkw3Qr5"
CODED = base64.b64encode(f"someone:{SECRET}".encode())


FILE_WITH_SECRET = """
name: {name}
dataset: {{name: digits, subset: 60}}
regimens:
  supervised:
    train: {{max_epochs: 2, batch_size: 32}}
    parameters: {{train.lr: {{values: [0.1, 1e6]}}}}
seeds: 2
metrics: [aum]
tracking_uri: {uri}
"""


def holding(*folders):
    """Files that hold the secret, also as HTTP sends it."""
    return [
        path
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.is_file() and any(text in path.read_bytes() for text in (SECRET.encode(), CODED))
    ]


def with_secret(address):
    return address.replace("http://", f"http://someone:{SECRET}@")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@tracker:5000/path", "https://***@tracker:5000/path"),
        ("no http://me:s3%2Fcret@a nor (http://token@b)", "no http://***@a nor (http://***@b)"),
        ("https://me:sec@ret@tracker", "https://***@tracker"),
        ("sqlite:////some/where/a@b.db", "sqlite:////some/where/a@b.db"),
        ("http://tracker/a@b", "http://tracker/a@b"),
    ],
)
def test_addresses_are_shown_without_credentials(text, shown):
    assert hidden(text) == shown


@pytest.mark.parametrize("password", [f"{SECRET}/a", f"{SECRET}?a", f"{SECRET}#a", f"{SECRET}@a"])
def test_an_address_that_a_password_breaks_is_refused_unseen(password):
    with pytest.raises(TrackerError, match="quoted as %2F") as caught:
        Store.create(f"http://someone:{password}@127.0.0.1:5000", "any")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


FILE = Path("file")
CALLS = {
    "read_sweep": (),
    "save_sweep": ({}, {}),
    "configurations": (),
    "save_configuration": (CONFIGURATION, {}, 0),
    "start_run": (RUN, "parent", {}),
    "traces": (),
    "trace": ("run",),
    "log_epoch": ("run", 0, {"loss": 1.0}),
    "upload": ("run", FILE, "file"),
    "download": ("run", "file", Path()),
    "files": ("run",),
    "local_folder": ("run",),
    "aggregate_run": (),
    "upload_folder": ("run", Path()),
    "tracked": ("run",),
    "adopted": (),
    "create": (with_secret("http://127.0.0.1:1"), "any"),
    "find": (with_secret("http://127.0.0.1:1"), "any"),
}


@pytest.mark.parametrize("method", CALLS)
def test_no_error_shows_them(method, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    FILE.write_text("content")
    store = Store(with_secret("http://127.0.0.1:1"), "1", "any")
    with pytest.raises(TrackerError) as caught:
        getattr(store, method)(*CALLS[method])
    shown = "".join(traceback.format_exception(caught.value))
    assert "127.0.0.1" in shown
    out, err = capfd.readouterr()
    for text in (shown, str(pickle.dumps(caught.value)), caplog.text, out, err):
        assert SECRET not in text


def test_places_do_not_show_them():
    places = Places(
        store=Store(with_secret("http://tracker:5000"), "1", "any"),
        name="any",
        storage_path="/there",
        recording=Recording(),
    )
    assert SECRET not in repr(places)


def test_the_search_finds_what_is_there(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "plain").write_text(f"a {SECRET}.")
    (tmp_path / "deep" / "coded").write_bytes(b"Basic " + CODED)
    (tmp_path / "deep" / "other").write_text("nothing")
    assert {p.name for p in holding(tmp_path)} == {"plain", "coded"}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_sweep_leaves_none_behind(workdir, server, tmp_path_factory, monkeypatch):
    import ray

    rmtree, tune_folders = shutil.rmtree, []

    def looked_through(path, *arguments, **more):
        if Path(path).name.startswith(".tune-"):
            tune_folders.append([*Path(path).rglob("*")])
            assert holding(path) == []
        rmtree(path, *arguments, **more)

    monkeypatch.setattr(shutil, "rmtree", looked_through)
    name = f"secret-{uuid.uuid4().hex[:8]}"
    path = workdir / f"{name}.yaml"
    path.write_text(FILE_WITH_SECRET.format(name=name, uri=with_secret(server)))
    said = io.StringIO()
    for line in (
        ("run", path),
        ("status", name, "--tracking-uri", with_secret(server)),
        ("ui", name, "--tracking-uri", with_secret(server)),
        ("sync", name, "--tracking-uri", with_secret(server), "--to", f"sqlite:///{workdir}/a.db"),
        ("sync", name, "--to", with_secret(server)),
        ("status", "no-such-sweep", "--tracking-uri", with_secret(server)),
        ("run", path, f"tracking_uri={with_secret('http://127.0.0.1:1')}"),
        ("run", path, f"tracking_uri=[{with_secret(server)}]"),
    ):
        code, out, err = command(*line)
        assert "Traceback" not in err
        said.write(f"{code} {out} {err}\n")
    assert tune_folders[0]
    assert "--tracking-uri http://***@" in said.getvalue()
    assert "2 of 4 cells failed" in said.getvalue()
    assert SECRET not in said.getvalue()
    # The experiment file itself is the one place that holds it.
    path.unlink()
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    places = (workdir, session, *tmp_path_factory.getbasetemp().glob("server*"))
    assert len(places) > 2
    assert holding(*places) == []
