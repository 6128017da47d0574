"""Ctrl-C ends a sweep cleanly on one machine, and the same command goes on.

On a cluster, and for SIGTERM too, see test_faults.py.
"""

import signal
import subprocess
import sys
import time

import pytest

from tests.sweep.sweeps import FEW, cells, command, experiment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_an_interrupted_sweep_goes_on(workdir):
    path = experiment(workdir, epochs=12, seeds="2", lrs="[0.1]", subset=200, metrics=FEW)
    line = ["run", path, "--no-aggregate", "resources.checkpoint_seconds=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep", *map(str, line)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for_a_stored_epoch(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; what is done is kept. Go on with: sweep run" in err
    assert "Traceback" not in err
    store, sweep = cells("small")
    states = {r.info.status for r in store.client.search_runs([store.experiment_id])}
    assert "RUNNING" not in states
    assert any(c.state != "done" for c in sweep.cells)
    code, _, err = command(*line)
    assert code == 0, err
    _, sweep = cells("small")
    assert [c.state for c in sweep.cells] == ["done"] * 4
    assert len(store.client.search_runs([store.experiment_id], "tags.role = 'run'")) == 4


def wait_for_a_stored_epoch(process):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        try:
            store, _ = cells("small")
        except LookupError:
            time.sleep(0.5)
            continue
        if any(t.epochs > 1 for t in store.traces().values()):
            return
        time.sleep(0.2)
    raise AssertionError("no epoch was stored within two minutes")
