"""What can be broken: nodes of a Ray cluster, a tracking server, drivers and workers of a sweep."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from tests.conftest import ROOT, free_port, wait_for
from tests.sweep.sweeps import cells, command

RAY = Path(sys.executable).with_name("ray")
CELLS, EPOCHS = 4, 5
EXPERIMENT = """
name: {name}
dataset: {{name: digits, subset: 120}}
validation: {{split: 0.2}}
model: {{name: small_cnn, width: 4}}
regimens:
  supervised:
    train: {{max_epochs: {epochs}, batch_size: 32, lr: 0.1}}
  contrastive:
    train: {{max_epochs: {epochs}, batch_size: 64}}
seeds: {seeds}
metrics: [aum, el2n, feature_norm_mean, msd_mean, knn_distance]
resources: {{checkpoint_seconds: 0}}
tracking_uri: {uri}
"""

# In the workers of a sweep: notes each epoch that is trained, in "trained"; stops before the
# checkpoint of the epoch that "hold" names until it names another, as "at.EPOCH.PID" says.
WATCH = """
import os, time
from pathlib import Path
import sweep.execution.trial

FOLDER = Path({folder!r})
HOLD = FOLDER / "hold"

def held_at(epoch):
    try:
        return HOLD.read_text() == str(epoch)
    except FileNotFoundError:
        return False

def watched(spool, record, write=sweep.execution.trial.write_epoch):
    files = write(spool, record)
    with (FOLDER / "trained").open("a") as log:
        log.write(f"{{spool.name}} {{record.epoch}}\\n")
    return files

def held(checkpoint, folder, save=sweep.execution.trial.save_checkpoint):
    while held_at(checkpoint.epoch):
        (FOLDER / f"at.{{checkpoint.epoch}}.{{os.getpid()}}").touch()
        time.sleep(0.02)
    save(checkpoint, folder)

if "RAY_RAYLET_PID" in os.environ:
    sweep.execution.trial.write_epoch, sweep.execution.trial.save_checkpoint = watched, held
"""


def descendants(pid):
    """A process and all that it started, as far as they live, the eldest first."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def kill(*pids):
    """Kill -9, whoever of them is still there."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def until(condition, seconds=180, what="it", alive=None):
    """What a condition gives once it gives something, while the process that is to do it lives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert alive is None or alive.poll() is None, f"{what}: its process has ended"
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")


class Cluster:
    """A Ray head with one CPU, and a second node with one, each with a folder of its own."""

    def __init__(self):
        # Every process of a cluster has to agree on tokens; on loopback there are none.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        self.environment |= {
            "RAY_AUTH_MODE": "disabled",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
        }
        self.address = f"127.0.0.1:{free_port()}"
        self._folders = []
        self.head = self.second = None
        self.start_nodes()
        self.environment["RAY_ADDRESS"] = self.address

    def start_nodes(self):
        """Start what is there from the beginning."""
        self.start_head()
        self.join()

    def start_head(self, *more, cpus=1):
        """Start the head, and wait for it."""
        port = self.address.rpartition(":")[2]
        self.head = self._start(
            "--head", f"--port={port}", f"--ray-client-server-port={free_port()}",
            "--include-dashboard=false", *more, cpus=cpus,
        )  # fmt: skip
        until(self.nodes, what="the head", alive=self.head)

    def join(self):
        """Start the second node, unless it is there; again, if another process took its port."""
        for _ in range(3):
            if self.second is not None and self.second.poll() is None:
                return
            # One that was killed is alive to the head for some seconds more.
            before = self.nodes()
            self.second = node = self._start(f"--address={self.address}")
            until(
                lambda node=node, before=before: self.nodes() - before or node.poll() is not None,
                what="the second node",
            )
        assert self.second.poll() is None, "the second node ends as soon as it is started"

    def lose(self):
        """Kill -9 all of the second node: a machine that is gone."""
        kill(*reversed(descendants(self.second.pid)))
        self.second.wait(30)
        self.second = None

    def nodes(self):
        """Ids of those that are alive, as the head sees it."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]

        try:
            found = GcsClient(address=self.address).get_all_node_info()
        except Exception:  # noqa: BLE001 - the head is not up yet
            return set()
        return {node_id for node_id, node in found.items() if node.state == 0}

    def close(self):
        for node in (self.second, self.head):
            if node is not None:
                kill(*reversed(descendants(node.pid)))
                node.wait(30)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, *arguments, cpus=1):
        # Socket paths are limited to 107 bytes: pytest's own folders may be too long.
        folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self._folders.append(folder)
        line = [
            RAY, "start", *arguments, f"--num-cpus={cpus}", f"--temp-dir={folder}", "--block",
            "--object-store-memory=100000000", f"--dashboard-agent-listen-port={free_port()}",
        ]  # fmt: skip
        with (Path(folder) / "start.log").open("w") as log:
            return subprocess.Popen(
                list(map(str, line)), env=self.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


class Server:
    """A real MLflow server with proxied artifacts, that comes back on its port and its store."""

    def __init__(self, folder, backend=None):
        self.folder, self.port = folder, free_port()
        self.backend = backend or f"sqlite:///{folder}/mlflow.db"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.start()

    def start(self):
        """Start it, unless it runs."""
        if self.process is not None:
            return
        line = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--backend-store-uri", self.backend,
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1",
        ]  # fmt: skip
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                line, env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(f"{self.uri}/health", 180, self.process)

    def kill(self):
        """Kill -9."""
        kill(*reversed(descendants(self.process.pid)))
        self.process.wait(30)
        self.process = None

    def artifacts(self, tracking_run):
        """The folder with a run's artifacts."""
        (found,) = self.folder.glob(f"artifacts/*/{tracking_run}/artifacts")
        return found


class Sweep:
    """One sweep that faults are tried on: its file, its places, and what its workers did."""

    def __init__(self, folder, uri, name, *, epochs=EPOCHS, seeds="2", storage=None):
        self.name, self.uri, self.folder = name, uri, folder
        self.storage = storage or folder / "sweeps"
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        (folder / "watch.py").write_text(WATCH.format(folder=str(self.control)))
        self.file = folder / f"{name}.yaml"
        text = EXPERIMENT.format(name=name, epochs=epochs, seeds=seeds, uri=uri)
        self.file.write_text(text + f"storage_path: {self.storage}\nplugins: [watch.py]\n")
        self.epochs = epochs
        self._drivers = []

    def start(self, cluster, *more):
        """``sweep run`` as a process of its own, on the cluster."""
        driver = subprocess.Popen(
            [sys.executable, "-m", "sweep", "run", str(self.file), "--no-figures", *more],
            env=cluster.environment, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._drivers.append(driver)
        return driver

    def close(self):
        """Leave no driver behind, whatever a test came to."""
        for driver in self._drivers:
            driver.kill()
            driver.communicate()

    def run(self, *more):
        """The same command in this process, on this process's Ray; code, output, complaints."""
        return command("run", self.file, "--no-figures", *more)

    def hold(self, epoch):
        """Let workers stop before the checkpoint of that epoch, and at none before or after."""
        (self.control / "next").write_text(str(epoch))
        (self.control / "next").replace(self.control / "hold")

    def held(self, count, process=None):
        """Wait until so many workers stand there; returns their process ids."""

        def standing():
            if process is not None:
                assert process.poll() is None, process.communicate()
            epoch = (self.control / "hold").read_text()
            found = [int(p.suffix[1:]) for p in self.control.glob(f"at.{epoch}.*")]
            found = [pid for pid in found if Path(f"/proc/{pid}").exists()]
            return found if len(found) >= count else None

        return until(standing, what=f"{count} workers at the gate")

    def go(self):
        """Let them go on."""
        (self.control / "hold").unlink(missing_ok=True)

    def trained(self):
        """How often each epoch of each run was trained, epoch -1 being what is before training."""
        log = self.control / "trained"
        return Counter(log.read_text().splitlines()) if log.exists() else Counter()

    def again(self):
        """How many epochs were trained more than once, and how often in all beyond the first."""
        return sum(count - 1 for count in self.trained().values())

    def states(self):
        """Cells by state, as ``sweep status`` says."""
        code, out, err = command("status", self.name, "--tracking-uri", self.uri, "--format", "csv")
        assert code in (0, 1), err
        table = pd.read_csv(io.StringIO(out), keep_default_na=False)
        self.reasons = [r for r in table["reason"] if r]
        return dict(Counter(table["state"]))

    def tables(self):
        """What has to be equal, to the bit."""
        folder = self.storage / self.name
        return {
            **{f: (folder / f).read_text() for f in ("stability.csv", "agreement.csv")},
            "samples.parquet": pd.read_parquet(folder / "samples.parquet"),
        }

    def ends(self):
        """When each finished cell ended, by run id."""
        store, sweep = cells(self.name, self.uri)
        return {
            c.run.run_id: store.client.get_run(c.trace.tracking_run).info.end_time
            for c in sweep.cells
            if c.state == "done"
        }

    def is_in_order(self):
        """All is done, no run stands twice, and none is said to be running."""
        store, sweep = cells(self.name, self.uri)
        assert [c.state for c in sweep.cells] == ["done"] * len(sweep.cells)
        runs = store.client.search_runs([store.experiment_id], max_results=5000)
        assert [r.info.run_id for r in runs if r.info.status == "RUNNING"] == []
        ids = [r.data.tags["run_id"] for r in runs if r.data.tags["role"] == "run"]
        assert sorted(ids) == sorted(c.run.run_id for c in sweep.cells)
        for folder in ("spool", "checkpoints", "claims"):
            left = self.storage / folder
            assert not left.exists() or list(left.iterdir()) == [], folder


def same(found, expected):
    """Whether tables are equal to the bit."""
    for name in ("stability.csv", "agreement.csv"):
        assert found[name] == expected[name], name
    pd.testing.assert_frame_equal(
        found["samples.parquet"], expected["samples.parquet"], check_exact=True
    )


def ended(process):
    """Exit code and complaints of a driver."""
    _, err = process.communicate(timeout=400)
    assert "Traceback" not in err
    return process.returncode, err


def goes_on(sweep, reference, retrained, before=None):
    """The same command gives the reference's tables, having trained no more than it had to."""
    before = sweep.ends() if before is None else before
    code, _, err = sweep.run()
    assert code == 0, err
    same(sweep.tables(), reference)
    sweep.is_in_order()
    assert sweep.states() == {"done": CELLS}
    assert sweep.again() <= retrained, sweep.trained()
    after = sweep.ends()
    assert {run: after[run] for run in before} == before


def flip(path):
    """Turn one bit in the middle of a file; it stays as long as it was."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fill(path):
    """Write into a file until the disk is full."""
    with path.open("ab", buffering=0) as filler:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)):
                    pass


def halve(path):
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)
