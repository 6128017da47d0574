"""Nothing is lost in the long run: faults at random moments, until the sweep is done."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hardness.dynamics import checkpoint as checkpoints
from sweep.store.mlflow_store import Store
from tests.sweep.breakable import EPOCHS, Sweep, descendants, ended, fill, flip, halve, kill, same
from tests.sweep.sweeps import cells, command, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


ENDS_THE_DRIVER = ("kill -9 of the driver", "Ctrl-C", "SIGTERM")


class Soak:
    """A sweep that is disturbed at random moments, by faults in a random order, until it is done.

    Args:
        sweep: Of many cells.
        rng: The one source of chance.
        small: Whether the disk of the sweep is one that may be filled.
    """

    process: Any = None

    def __init__(self, sweep, cluster, tracker, rng, *, small):
        self.sweep, self.cluster, self.tracker, self.rng = sweep, cluster, tracker, rng
        self.starts = 0
        self.tried, self.slowest = Counter(), {}
        self.kinds = {
            "kill -9 of a worker": self.worker,
            "kill -9 of the driver": lambda: kill(self.process.pid),
            "kill -9 of the second node": self.node,
            "kill -9 of the tracker": self.server,
            "Ctrl-C": lambda: self.process.send_signal(signal.SIGINT),
            "SIGTERM": lambda: self.process.send_signal(signal.SIGTERM),
            "a damaged file of a finished run": self.finished,
            "a checkpoint cut in half, and kill -9": self.checkpoint,
            "a second driver": self.rival,
        }
        if small:
            self.kinds["a full disk"] = self.full

    def workers(self):
        """Processes that train, or are about to."""
        found = []
        for pid in descendants(self.cluster.head.pid) + descendants(self.cluster.second.pid):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"ray::ImplicitFunc"):
                found.append(pid)
        return found

    def worker(self):
        end = time.monotonic() + 300
        # The sweep may just be at its end, or be found to have something left to train.
        while not (found := self.workers()) and not self.over():
            self.drive()
            assert time.monotonic() < end, "no worker comes"
            time.sleep(0.05)
        kill(*self.rng.sample(found, min(1, len(found))))

    def node(self):
        self.cluster.lose()
        self.cluster.join()

    def server(self):
        self.tracker.kill()
        time.sleep(self.rng.uniform(0, 3))
        self.tracker.start()

    def full(self):
        filler = self.sweep.storage / "filler"
        fill(filler)
        time.sleep(self.rng.uniform(0, 3))
        filler.unlink()

    def finished(self):
        done = [
            *self.tracker.folder.glob(f"artifacts/{self.experiment()}/*/artifacts/manifest.json")
        ]
        if done:
            run = self.rng.choice(sorted(done)).parent
            self.rng.choice((flip, halve))(run / "dynamics" / "epoch=0001.parquet")

    def checkpoint(self):
        for folder in (self.sweep.storage / "checkpoints").iterdir():
            for _, path in checkpoints.newest_first(folder)[:1]:
                try:
                    halve(path)
                except FileNotFoundError:
                    continue  # its run has just ended
        self.worker()

    def rival(self):
        rival = self.sweep.start(self.cluster)
        code, err = ended(rival)
        # Where the driver has ended meanwhile, the second is the first.
        assert code == 2 or self.process.poll() is not None, err

    def experiment(self):
        return Store.find(self.tracker.uri, self.sweep.name).experiment_id

    def drive(self):
        """Have a driver: the same command again, whenever there is none."""
        if self.process is None or self.process.poll() is not None:
            if self.process is not None:
                _, err = self.process.communicate()
                assert "Traceback" not in err, err
            self.process = self.sweep.start(self.cluster)
            self.starts += 1

    def at_work(self):
        """Runs that a worker has taken up and that are not done."""
        return {p.name for p in (self.sweep.storage / "claims").glob("*") if not p.suffix}

    def progress(self):
        """How many epochs each run was trained."""
        return Counter(line.split()[0] for line in self.sweep.trained().elements())

    def waiting(self, hit, before):
        """Whether a run that a fault hit has neither trained since nor ended, or if none, any."""
        now = self.progress()
        return (
            any(now[run] == before[run] for run in hit & self.at_work()) if hit else now == before
        )

    def over(self):
        """Whether the command has come to its end with all cells done."""
        return self.process is not None and self.process.poll() == 0

    def go(self, schedule):
        """Work through pairs of a moment, in epochs trained, and a kind of fault; then end."""
        for moment, kind in schedule:
            while len(self.sweep.trained()) < moment and not self.over():
                self.drive()
                time.sleep(0.05)
            if self.over():
                break
            self.drive()
            hit, before, began = self.at_work(), self.progress(), time.monotonic()
            self.kinds[kind]()
            self.tried[kind] += 1
            if kind in ENDS_THE_DRIVER:
                self.process.wait(120)
                self.drive()
                # Its workers may have trained on for a moment.
                before = self.progress()
            while self.waiting(hit, before) and not self.over():
                self.drive()
                time.sleep(0.05)
                assert time.monotonic() - began < 300, f"stands still after {kind}"
            self.slowest[kind] = max(self.slowest.get(kind, 0), time.monotonic() - began)
        while not self.over():
            self.drive()
            time.sleep(0.1)
            assert self.starts < 3 * len(schedule) + 10, "never ends"
        self.process.communicate()


def test_a_soak(tmp_path, cluster, tracker, disk, monkeypatch):
    """Cells and faults by ``SOAK_CELLS``: few in `make test`, many in `make soak`."""
    monkeypatch.chdir(tmp_path)
    count = int(os.environ.get("SOAK_CELLS", "20"))
    # Under this seed the few faults of `make test` are those that differ most.
    rng = random.Random(int(os.environ.get("SOAK_SEED", "249")))
    undisturbed = Sweep(
        tmp_path / "undisturbed", f"sqlite:///{tmp_path}/mlflow.db", "undisturbed", seeds=count // 2
    )
    train(undisturbed.file)
    code, _, err = command(
        "aggregate", undisturbed.name, "--no-figures", "--tracking-uri", undisturbed.uri
    )
    assert code == 0, err
    small = disk("64m")
    sweep = Sweep(tmp_path / "soak", tracker.uri, f"soak-{count}", seeds=count // 2, storage=small)
    soak = Soak(sweep, cluster, tracker, rng, small=small is not None)
    rounds = [rng.sample(sorted(soak.kinds), len(soak.kinds)) for _ in range(count)]
    kinds = [kind for of_each in rounds for kind in of_each][: count // 4]
    epochs = count * (EPOCHS + 1)
    moments = sorted(rng.sample(range(1, 3 * epochs // 4), len(kinds)))
    try:
        soak.go([*zip(moments, kinds, strict=True)])
    finally:
        sweep.close()
    same(sweep.tables(), undisturbed.tables())
    sweep.is_in_order()
    store, found = cells(sweep.name, tracker.uri)
    lost = [c for c in found.cells if c.state != "done"]
    runs = store.client.search_runs([store.experiment_id], "tags.role = 'run'", max_results=5000)
    duplicates = len(runs) - len({run.data.tags["run_id"] for run in runs})
    print(
        f"\n{sum(soak.tried.values())} faults on {count} cells of {EPOCHS} epochs, "
        f"{soak.starts} drivers one after another"
    )
    print(f"runs lost {len(lost)}, duplicates {duplicates}, epochs trained again {sweep.again()}")
    for kind, seconds in soak.slowest.items():
        print(f"  {soak.tried[kind]} x {kind}: what it hit goes on after {seconds:.1f} s at most")
    assert (lost, duplicates) == ([], 0)
    # A fault costs the epochs since two checkpoints of each worker, or the whole of a finished run.
    assert sweep.again() <= sum(soak.tried.values()) * (EPOCHS + 1)
