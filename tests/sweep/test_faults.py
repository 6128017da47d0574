"""Nothing is lost: each fault for real, on two nodes and a tracking server, against one reference.

The tables of an undisturbed sweep are made once. After each fault the same command again has to
give them to the bit, with no run twice, none left running, and nothing trained again without need.
"""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from breakable import EPOCHS, Cluster, Server, Sweep, descendants, kill, same, until
from sweeps import cells, command

from hardness import checkpoint as checkpoints
from sweep import driver, experiment_file, planning
from sweep.claim import Claim, Guarded
from sweep.spec import Pack, Places, RunSpec
from sweep.tracking import Store
from sweep.trial import _as_room_comes, run_pack
from sweep.uploading import Uploader

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
CELLS = 4


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


def test_kill_9_of_a_worker(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    first, _ = sweep.held(2, process)[:2]
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(first)
    sweep.go()
    assert ended(process)[0] == 0
    # The run goes on in another process, from its last checkpoint: one epoch is trained again.
    goes_on(sweep, reference, retrained=1)


def test_kill_9_of_the_driver(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster)
    sweep.held(2, process)
    assert sweep.states() == {"running": 2, "missing": 2}
    kill(process.pid)
    # Its workers may be at work for a moment; nobody drives the sweep, so none of it runs.
    assert sweep.states() == {"missing": 4}
    assert sweep.reasons == ["cut off after 3 epochs; sweep run goes on"] * 2
    process.communicate()
    sweep.go()
    goes_on(sweep, reference, retrained=2 * (EPOCHS - 2))


def test_kill_9_of_the_second_node(sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    sweep.held(2, process)
    cluster.lose()
    sweep.go()
    try:
        assert ended(process)[0] == 0
    finally:
        cluster.join()
    goes_on(sweep, reference, retrained=2)


def test_kill_9_of_the_tracker_and_its_return(sweep, cluster, tracker, reference):
    sweep.hold(2)
    process = sweep.start(cluster, "--no-aggregate")
    sweep.held(2, process)
    tracker.kill()
    try:
        code, _, err = command("status", sweep.name, "--tracking-uri", tracker.uri)
        assert (code, "does not answer" in err) == (2, True)
        # Two cells train to their end, and their successors wait, while there is no tracker.
        sweep.go()
        trained = time.monotonic() + 60
        while sum(sweep.trained().values()) < 2 * (EPOCHS + 1):
            assert time.monotonic() < trained
            time.sleep(0.1)
    finally:
        tracker.start()
    assert ended(process)[0] == 0
    goes_on(sweep, reference, retrained=0)


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupt(notice, sweep, cluster, reference):
    sweep.hold(2)
    process = sweep.start(cluster)
    sweep.held(2, process)
    process.send_signal(notice)
    code, err = ended(process)
    assert code == 130, err
    assert "interrupted; what is done is kept. Go on with: sweep run" in err
    assert sweep.states() == {"missing": 4}
    store, _ = cells(sweep.name, sweep.server.uri)
    states = {r.info.status for r in store.client.search_runs([store.experiment_id])}
    assert states == {"FINISHED", "KILLED"}
    sweep.go()
    goes_on(sweep, reference, retrained=2 * (EPOCHS - 2))


def test_two_drivers_at_once(sweep, cluster, reference):
    sweep.hold(2)
    processes = [sweep.start(cluster, "--no-aggregate") for _ in range(2)]
    while all(process.poll() is None for process in processes):
        time.sleep(0.1)
    (refused,) = [p for p in processes if p.poll() is not None]
    (driving,) = [p for p in processes if p is not refused]
    code, err = ended(refused)
    assert code == 2, err
    (line,) = err.splitlines()
    assert f"(pid {driving.pid}) has been running the sweep {sweep.name} since" in line
    sweep.held(2, driving)
    assert sweep.states() == {"running": 2, "missing": 2}
    sweep.go()
    assert ended(driving)[0] == 0
    goes_on(sweep, reference, retrained=0)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, small enough to be full; the size comes with the call."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"needs a small file system of its own: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(sweep, disk, reference):
    disk = disk("4m")
    sweep.file.write_text(sweep.file.read_text().replace(str(sweep.storage), str(disk)))
    sweep.storage = disk
    plugin = sweep.folder / "watch.py"
    plugin.write_text(plugin.read_text() + FILL.format(filler=str(disk / "filler")))
    (sweep.control / "fill").touch()
    code, _, err = sweep.run("resources.max_failures=1")
    assert code == 1, err
    assert "Traceback" not in err
    states = sweep.states()
    assert states["failed"] == CELLS - states.get("done", 0)
    assert all("No space left on device" in r and "; make room there" in r for r in sweep.reasons)
    assert all(len(r.splitlines()) == 1 for r in sweep.reasons)
    (sweep.control / "fill").unlink()
    (disk / "filler").unlink()
    # Of each cell and attempt that epoch, and where a neighbour filled the disk the one before.
    goes_on(sweep, reference, retrained=4 * CELLS)


def test_a_full_disk_that_uploads_empty(disk, tmp_path, tracker):
    """A spool with room for three files takes ten, a file as soon as another one is stored."""
    spool = disk("64k")
    store = Store.create(tracker.uri, "empties")
    run = store._new("any", {"role": "any"})
    with Uploader(Guarded(store, Claim(tmp_path / "claim", "any")), run, spool) as uploader:
        for number in range(10):
            path = spool / f"{number}.bin"
            _as_room_comes(partial(path.write_bytes, bytes(20_000)), uploader)
            uploader.put([path.name])
    assert store.files(run) == {f"{number}.bin": 20_000 for number in range(10)}
    with Uploader(Guarded(store, Claim(tmp_path / "claim", "any")), run, spool) as uploader:
        write = partial((spool / "large.bin").write_bytes, bytes(100_000))
        with pytest.raises(OSError, match="No space left"):
            _as_room_comes(write, uploader)


# At the end of epoch 1 somebody else fills the disk.
FILL = """
def filled(checkpoint, folder, save=held):
    save(checkpoint, folder)
    if checkpoint.epoch == 1 and (FOLDER / "fill").exists():
        with open({filler!r}, "ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while filler.write(bytes(size)):
                        pass
                except OSError:
                    continue

if "RAY_RAYLET_PID" in os.environ:
    sweep.trial.save_checkpoint = filled
"""


def flip(path):
    """Turn one bit in the middle of a file; it stays as long as it was."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def test_a_damaged_epoch_file_of_a_finished_run(sweep, tracker, reference):
    code, _, err = sweep.run("--no-aggregate")
    assert code == 0, err
    _, found = cells(sweep.name, tracker.uri)
    flipped, cut = (
        tracker.artifacts(cell.trace.tracking_run) / "dynamics" / "epoch=0001.parquet"
        for cell in (found.cells[0], found.cells[2])
    )
    flip(flipped)
    halve(cut)
    # A size that is wrong shows at once, a bit that is wrong when the file is read.
    assert sweep.states() == {"done": 3, "missing": 1}
    assert "epoch=0001.parquet: expected" in sweep.reasons[0]
    code, out, _ = command("aggregate", sweep.name, "--tracking-uri", tracker.uri)
    assert code == 1
    assert "its digest differs from the manifest's" in out
    assert sweep.states() == {"done": 2, "failed": 1, "missing": 1}
    ends = sweep.ends()
    assert len(ends) == 2
    goes_on(sweep, reference, retrained=2 * (EPOCHS + 1), before=ends)


def test_a_damaged_file_of_a_half_trained_run(sweep, tracker, reference):
    runs = half_trained(sweep, tracker)
    store, _ = cells(sweep.name, tracker.uri)
    dynamics = [
        tracker.artifacts(store.trace(run).tracking_run) / "dynamics" / "epoch=0002.parquet"
        for run in runs
    ]
    # A bit in the store; a spooled file that is cut short; a checkpoint cut in half; a bit in one.
    flip(dynamics[0])
    spooled = sweep.storage / "spool" / runs[1] / "dynamics" / "epoch=0002.parquet"
    spooled.parent.mkdir(parents=True, exist_ok=True)
    dynamics[1].replace(spooled)
    halve(spooled)
    for run, damage in zip(runs[2:], (halve, flip), strict=True):
        damage(checkpoints.newest_first(sweep.storage / "checkpoints" / run)[0][1])
    assert sweep.states() == {"missing": 4}
    code, _, err = sweep.run()
    assert code == 0, err
    # Each goes on from the checkpoint before the damage.
    assert sweep.trained() == {f"{run} {epoch}": 1 for run in runs for epoch in (2, 3)}
    goes_on(sweep, reference, retrained=0)


def half_trained(sweep, tracker):
    """Train each cell in this process up to epoch 2 and its checkpoint; returns the run ids."""
    spec = experiment_file.check(experiment_file.read(sweep.file), str(sweep.file))
    spec, dataset = driver.load(spec)
    store = Store.create(tracker.uri, sweep.name)
    content = driver.resolved(experiment_file.read(sweep.file), spec)
    known = {"dataset_digest": spec.dataset_digest, "dataset_size": spec.dataset_size}
    store.save_sweep({**content, **known}, {})
    places = Places(
        tracking_uri=store.uri,
        experiment_id=store.experiment_id,
        name=sweep.name,
        storage_path=spec.storage_path,
        recording=driver._recording(spec),
        checkpoint_seconds=0,
    )
    runs = []
    for number, proposal in enumerate(planning.proposals(spec, [], {})):
        parent = store.save_configuration(proposal.configuration, {}, number)
        for seed in spec.seeds:
            pack = Pack(configuration=proposal.configuration, seeds=(seed,), parent_run=parent)
            training = run_pack(pack, dataset, places)
            while next(training).epoch < 3:
                pass
            runs.append(RunSpec(configuration=proposal.configuration, seed=seed).run_id)
            spool = places.spool(runs[-1])
            until(lambda spool=spool: not any(p.is_file() for p in spool.rglob("*")), what="upload")
            training.close()
    return runs


ENDS_THE_DRIVER = ("kill -9 of the driver", "Ctrl-C", "SIGTERM")


class Soak:
    """A sweep that is disturbed at random moments, by faults in a random order, until it is done.

    Args:
        sweep: Of many cells.
        rng: The one source of chance.
    """

    def __init__(self, sweep, cluster, tracker, rng):
        self.sweep, self.cluster, self.tracker, self.rng = sweep, cluster, tracker, rng
        self.process = None
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


def test_a_soak(tmp_path, cluster, tracker, monkeypatch):
    """Cells and faults by ``SOAK_CELLS``: few in `make test`, many in `make soak`."""
    monkeypatch.chdir(tmp_path)
    count = int(os.environ.get("SOAK_CELLS", "20"))
    # Under this seed the few faults of `make test` are those that differ most.
    rng = random.Random(int(os.environ.get("SOAK_SEED", "44")))
    undisturbed = Sweep(tmp_path / "undisturbed", tracker, f"undisturbed-{count}", seeds=count // 2)
    code, _, err = undisturbed.run()
    assert code == 0, err
    sweep = Sweep(tmp_path / "soak", tracker, f"soak-{count}", seeds=count // 2)
    soak = Soak(sweep, cluster, tracker, rng)
    rounds = [rng.sample(sorted(soak.kinds), len(soak.kinds)) for _ in range(count)]
    kinds = [kind for of_each in rounds for kind in of_each][: count // 3]
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
