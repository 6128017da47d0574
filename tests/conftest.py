"""What the tests share: one Ray, a migrated tracking store, small real data."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
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
    from hardness.metrics import METRICS

    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)
    for name in [name for name in sys.modules if name.startswith("sweep_plugin_")]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def ray_session():
    """One real Ray for the whole run of the tests."""
    from sweep import fanout

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


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real ``mlflow server`` on SQLite with proxied artifacts; gives its address."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"sqlite:///{folder / 'mlflow.db'}") as address:
        yield address


@contextlib.contextmanager
def serving(folder, backend):
    """An ``mlflow server`` on a database; gives its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", backend,
        "--artifacts-destination", str(folder / "artifacts"), "--workers", "1",
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", 120, process)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture(scope="session")
def postgres():
    """A fresh PostgreSQL on loopback; gives the address of its database."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    pg_ctl = shutil.which("pg_ctl") or next(reversed(installed), None)
    if pg_ctl is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="needs a driver for PostgreSQL: psycopg2-binary")
    folder = Path(tempfile.mkdtemp(prefix="postgres", dir="/tmp"))
    command = [str(pg_ctl), "--pgdata", str(folder / "data")]
    if os.getuid() == 0:
        # It refuses to run as root.
        command = ["runuser", "-u", "postgres", "--", *command]
        shutil.chown(folder, "postgres")

    def control(*arguments):
        # Its log goes to a file: the server would keep a pipe open for as long as it runs.
        with (folder / "out").open("a") as out:
            subprocess.run([*command, *arguments], check=True, cwd=folder, stdout=out, stderr=out)

    control("init", "-o", "--auth=trust --username=postgres --encoding=UTF8 --no-sync")
    port = free_port()
    try:
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k '' -c fsync=off"
        control("start", "--wait", "--log", str(folder / "log"), "-o", options)
        # A driver is named, since which one is the default depends on SQLAlchemy's version.
        yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        control("stop", "--mode", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_on_postgres(postgres, tmp_path_factory):
    """A real ``mlflow server`` on PostgreSQL with proxied artifacts; gives its address."""
    with serving(tmp_path_factory.mktemp("server-on-postgres"), postgres) as address:
        yield address


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
