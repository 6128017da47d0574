"""A sweep as a Ray job: submitted to a real head, tracked by a real server, done once."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port, wait_for
from tests.sweep.breakable import descendants, kill
from tests.sweep.sweeps import FEW, cells, command, experiment

pytestmark = pytest.mark.slow
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def head():
    """A Ray head as a cluster has it; gives the address for jobs."""
    # Socket paths are limited to 107 bytes: pytest's own folders may be too long.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    ports = [free_port() for _ in range(3)]
    # Every process of a cluster has to agree on tokens; on loopback there are none.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    start = [
        RAY, "start", "--head", "--num-cpus=1", f"--port={ports[0]}", f"--temp-dir={folder}",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={ports[1]}", "--include-dashboard=true",
        f"--dashboard-agent-listen-port={ports[2]}", "--block",
    ]  # fmt: skip
    with (folder / "start.log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, start)), env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        wait_for(f"{address}/api/version", 120)
        yield address, environment
    finally:
        kill(*reversed(descendants(process.pid)))
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def jobs(head, action, *arguments):
    """``ray job`` on that head: exit code and everything that it printed."""
    address, environment = head
    line = [RAY, "job", action, "--address", address, *arguments]
    done = subprocess.run(
        list(map(str, line)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def submit(head, *arguments, waits=True):
    name = f"test-{uuid.uuid4().hex[:8]}"
    code, log = jobs(
        head, "submit", "--working-dir", ROOT,
        "--runtime-env-json", '{"excludes": [".venv", ".git", "sweeps", "mlartifacts", "data"]}',
        "--submission-id", name, *([] if waits else ["--no-wait"]), "--",
        sys.executable, "-m", "sweep", *arguments,
    )  # fmt: skip
    return (code, log) if waits else name


def test_a_job_that_is_stopped_goes_on_and_once_done_trains_nothing(
    head, server, tmp_path, monkeypatch
):
    name = f"job-{uuid.uuid4().hex[:8]}"
    path = experiment(tmp_path, name=name, epochs=25, lrs="[0.1]", subset=200, metrics=FEW)
    places = [f"tracking_uri={server}", f"storage_path={tmp_path / 'storage'}"]
    places += ["resources.checkpoint_seconds=0"]
    first = submit(head, "run", path, "--no-figures", *places, waits=False)
    wait_for_a_stored_epoch(name, server)
    code, log = jobs(head, "stop", first)
    assert code == 0, log
    store, sweep = cells(name, server)
    assert {c.state for c in sweep.cells} <= {"missing", "done"}
    begun = {c.run.run_id: c.trace.epochs for c in sweep.cells if c.trace}
    assert 0 < sum(begun.values()) < 4 * 25

    code, log = submit(head, "run", path, "--no-figures", *places)
    assert code == 0, log
    assert "Stability across 2 seeds" in log
    # This head listens on the machine's own address, and asks for no token.
    assert log.count("can run programs on it, because it asks for no token") == 1
    assert "MLflow" not in log
    store, sweep = cells(name, server)
    assert [c.state for c in sweep.cells] == ["done"] * 4
    assert len(store.client.search_runs([store.experiment_id], "tags.role = 'run'")) == 4
    ended = {c.run.run_id: store.client.get_run(c.trace.tracking_run).info for c in sweep.cells}

    code, log = submit(head, "run", path, *places, "--no-aggregate")
    assert code == 0, log
    assert "4 of 4 cells are done already" in log
    _, again = cells(name, server)
    for cell in again.cells:
        info = store.client.get_run(cell.trace.tracking_run).info
        assert info.end_time == ended[cell.run.run_id].end_time
    # The results are in the tracker: any machine that reaches it can look.
    monkeypatch.chdir(tmp_path)
    code, out, err = command("status", name, "--tracking-uri", server)
    assert code == 0, err
    assert "contrastive" in out


def wait_for_a_stored_epoch(name, uri):
    end = time.monotonic() + 200
    while time.monotonic() < end:
        with contextlib.suppress(LookupError):
            if any(c.trace and c.trace.epochs > 1 for c in cells(name, uri)[1].cells):
                return
        time.sleep(0.5)
    raise AssertionError("no epoch was stored")


def test_a_job_asks_for_the_places_that_it_needs(head, tmp_path):
    path = experiment(tmp_path, name="nowhere")
    code, log = submit(head, "run", path, "--no-figures")
    assert code != 0
    assert "tracking_uri: expected http://HOST:PORT" in log
