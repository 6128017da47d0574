"""What placing cells on workers costs over the cells' own time."""

import os
import statistics
import time

from hardness.training.supervised import supervised
from sweep.execution import fanout
from sweep.execution.trial import run_pack
from sweep.experiment.spec import Resources
from tests.benchmarks import setting, storage
from tests.benchmarks.figures import Figure

CELLS, WORKERS, CELL_SECONDS, ALONE = 20, 2, 5.0, 3


def measure(_pairs: int) -> list[Figure]:
    """Seconds of 20 cells on 2 workers over what they would take if nothing came between."""
    dataset = setting.images()
    configured = setting.configuration(dataset, _epochs(dataset))
    with storage.store("scheduling") as (store, places):
        packs = setting.packs(store, configured, range(CELLS + ALONE))
        alone = statistics.median(_seconds(p, dataset, places) for p in packs[CELLS:])
        pending, reports = [packs[:CELLS]], []
        started = time.monotonic()
        with fanout.session():
            up = time.time()
            lost = fanout.run(
                lambda: pending.pop() if pending else [],
                reports.append,
                dataset=dataset,
                places=places,
                # On any machine: the share of it that lets two packs run at once.
                resources=Resources(cpu=os.cpu_count() / WORKERS),
            )
            ended = time.time()
        whole = time.monotonic() - started
        assert not lost
        assert sum(r.state == "done" for r in reports) == CELLS
        first, taken = _under_ray(store, {pack.seeds[0] for pack in packs[:CELLS]})
    busy = sum(
        r.summary["train_seconds"] + r.summary["eval_seconds"]
        for r in reports
        if r.state == "running"
    )
    span = ended - first
    what = f"scheduling: {CELLS} cells of {alone:.1f} s on {WORKERS} workers"
    return [
        Figure(
            what=what,
            asked="<= 1.3",
            found=f"{span / (CELLS * alone / WORKERS):.3f}",
            note=f"{span:.1f} s from the first cell's start to fanout's return; ideal: median of "
            f"{ALONE} cells in one process alone. Of the same cells under Ray, thus under the same "
            f"load: over their seconds from start to finish {span / (taken / WORKERS):.3f}, over "
            f"their train and eval seconds {span / (busy / WORKERS):.3f}",
        ),
        Figure(
            what="start-up, apart from it",
            asked="-",
            found=f"{whole - (ended - first):.1f} s",
            note=f"{first - up:.1f} s of them for the workers, the rest to start and stop Ray",
        ),
    ]


def _epochs(dataset):
    """How many epochs make a cell of about five seconds on this machine."""
    options = setting.supervised(epochs=3)
    records = list(supervised(dataset, setting.MODEL, options, setting.streams(0)))
    seconds = [r.summary["train_seconds"] + r.summary["eval_seconds"] for r in records[1:]]
    return max(1, round(CELL_SECONDS / min(seconds)))


def _seconds(pack, dataset, places):
    started = time.perf_counter()
    reports = list(run_pack(pack, dataset, places))
    assert reports[-1].state == "done"
    return time.perf_counter() - started


def _under_ray(store, seeds):
    """When the first cell started, and the seconds of all of them from start to finish."""
    runs = store.client.search_runs([store.experiment_id], "tags.role = 'run'")
    infos = [run.info for run in runs if int(run.data.params["seed"]) in seeds]
    assert len(infos) == CELLS
    taken = sum(info.end_time - info.start_time for info in infos)
    return min(info.start_time for info in infos) / 1000, taken / 1000
