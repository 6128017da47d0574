"""What tests of faults share: two nodes, a tracking server, and tables that nothing disturbed."""

import pickle

import pytest
from breakable import CELLS, EPOCHS, Cluster, Server, Sweep
from filelock import FileLock


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def tracker(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("tracker"))
    try:
        yield server
    finally:
        server.start()
        server.kill()


@pytest.fixture(scope="session")
def reference(tmp_path_factory, worker_id, ray_session):
    """Tables of a sweep that nothing disturbed, made by the first test process that asks."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "reference"
    tables = folder / "tables.pickle"
    with FileLock(f"{folder}.lock"):
        if not tables.exists():
            sweep = Sweep(folder, f"sqlite:///{folder}/mlflow.db", "reference")
            code, _, err = sweep.run()
            assert code == 0, err
            assert sweep.again() == 0
            assert sum(sweep.trained().values()) == CELLS * (EPOCHS + 1)
            tables.write_bytes(pickle.dumps(sweep.tables()))
    return pickle.loads(tables.read_bytes())


@pytest.fixture
def sweep(request, tmp_path, tracker, monkeypatch):
    """A sweep of the same cells, named after the test."""
    monkeypatch.chdir(tmp_path)
    name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
    sweep = Sweep(tmp_path, tracker.uri, name)
    yield sweep
    sweep.go()
    sweep.close()
