"""What tests of faults share: two nodes, a tracking server, and tables that nothing disturbed."""

import pytest
from breakable import CELLS, EPOCHS, Cluster, Server, Sweep


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("tracker"))
    try:
        yield server
    finally:
        server.start()
        server.kill()


@pytest.fixture(scope="module")
def reference(tmp_path_factory, tracker):
    """Tables of a sweep that nothing disturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("reference"), tracker, "reference")
    code, _, err = sweep.run()
    assert code == 0, err
    assert sweep.again() == 0
    assert sum(sweep.trained().values()) == CELLS * (EPOCHS + 1)
    return sweep.tables()


@pytest.fixture
def sweep(request, tmp_path, tracker, monkeypatch):
    """A sweep of the same cells, named after the test."""
    monkeypatch.chdir(tmp_path)
    name = request.node.name.removeprefix("test_").replace("[", "-").rstrip("]")
    sweep = Sweep(tmp_path, tracker, name)
    yield sweep
    sweep.go()
    sweep.close()
