"""What the tests share: one Ray, a migrated tracking store, small real data."""

import os
import shutil
import socket
import sys
import time
import urllib.request
from pathlib import Path

import hypothesis
import pytest

import sweep  # noqa: F401 - before anything imports Ray, which it tells where to listen

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

# A busy machine is no reason for a property to fail.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")

# Two processes test on two cores. A Ray that takes one of them starts one worker where it would
# start two, each of which imports for longer than most tests train.
os.environ.setdefault("RAY_OVERRIDE_RESOURCES", '{"CPU": 1}')
# And keeps it: what reduced the runs of one test reduces those of the next, or trains.
os.environ.setdefault("RAY_num_workers_soft_limit", "1")

# Ray's workers would compile torch and mlflow anew in every process.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# Files are handed to the processes in this order: one that began a long file last would end alone.
LONG = [
    "test_faults.py", "test_cli.py", "test_jobs.py", "test_damage.py", "test_soak.py",
    "test_real_data.py", "test_adaptive.py", "test_interrupt.py", "test_autoscaling.py",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def no_plugin_stays():
    """A metric that a test's plugin registers is gone after the test."""
    from hardness.metrics.registry import METRICS

    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)
    for name in [name for name in sys.modules if name.startswith("sweep_plugin_")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def ray_session():
    """One real Ray for the whole run of the tests."""
    from sweep.execution import fanout

    with fanout.session():
        yield


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """An empty SQLite store; its migration takes seconds, so it is done once."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workdir(tmp_path, migrated, monkeypatch):
    """An empty working directory with a fresh tracking store in it."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address, seconds, process=None):
    """Until an address answers; no longer than the process that is to answer lives."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            if time.monotonic() > end or (process is not None and process.poll() is not None):
                raise
            time.sleep(0.2)
