"""What tests of sweeps share: tracking servers, two nodes, and tables that nothing disturbed."""

import os
import pickle
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import free_port
from tests.sweep.breakable import CELLS, EPOCHS, Cluster, Server, Sweep


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def tracker(tmp_path_factory):
    """A real ``mlflow server`` on SQLite with proxied artifacts, which may be killed."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        yield server
    finally:
        server.start()
        server.kill()


@pytest.fixture
def server(tracker):
    """The address of the same one, for tests that leave it alone."""
    return tracker.uri


@pytest.fixture
def disk(tmp_path):
    """Makes a file system small enough to be full, of a given size; None where it may not."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        line = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(line, capture_output=True, check=False)
        return folder if done.returncode == 0 else None

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
    """The address of a real ``mlflow server`` on PostgreSQL with proxied artifacts."""
    server = Server(tmp_path_factory.mktemp("server-on-postgres"), postgres)
    try:
        yield server.uri
    finally:
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
