"""A worker that fills the memory of its node is ended by Ray; the sweep goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweep.sweeps import FEW, cells, experiment

pytestmark = pytest.mark.slow
ROOM = 4 << 30

# Once, in epoch 1: takes memory until Ray ends the process.
GLUTTON = """
import time
from pathlib import Path
import sweep.execution.trial

MARKER = Path({marker!r})
write = sweep.execution.trial.write_epoch

def eat_once(spool, record):
    if record.epoch == 1 and not MARKER.exists():
        MARKER.touch()
        eaten = []
        for _ in range(200):
            eaten.append(b"1" * (64 << 20))
            time.sleep(0.05)
    return write(spool, record)

sweep.execution.trial.write_epoch = eat_once
"""


def test_a_worker_that_takes_all_memory_is_ended_and_its_pack_goes_on(workdir):
    total, available = memory()
    if available < 3 * ROOM:
        pytest.skip(f"needs {3 * ROOM >> 30} GiB of free memory")
    marker, plugin = workdir / "eaten", workdir / "glutton.py"
    plugin.write_text(GLUTTON.format(marker=str(marker)))
    path = experiment(workdir, epochs=3, lrs="[0.1]", seeds="1", metrics=FEW)
    share = (total - available + ROOM) / total
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", str(path), "--no-aggregate", f"plugins=[{plugin}]"],
        env=os.environ | {"RAY_memory_usage_threshold": f"{share:.4f}"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert marker.exists()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    _, sweep = cells("small")
    assert [c.state for c in sweep.cells] == ["done"] * 2


def memory():
    """Bytes that the machine has, and that are to be had."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {name: int(size) << 10 for name, size, *_ in lines}
    return found["MemTotal:"], found["MemAvailable:"]
