"""Nothing is lost when a disk is full or a file is damaged: tables as if nothing had happened."""

import inspect
from functools import partial

import pytest

from hardness.dynamics import checkpoint as checkpoints
from sweep.execution.trial import _as_room_comes
from sweep.store.mlflow_store import Store
from sweep.store.ownership import RunClaim, WhileOwned
from sweep.store.uploading import Uploader
from tests.sweep.breakable import CELLS, EPOCHS, fill, flip, goes_on, halve, until
from tests.sweep.sweeps import by_hand, cells, command, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

NO_DISK = "needs a small file system of its own: rights to mount one"


def test_a_full_disk(sweep, disk, reference):
    disk = disk("4m") or pytest.skip(NO_DISK)
    sweep.file.write_text(sweep.file.read_text().replace(str(sweep.storage), str(disk)))
    sweep.storage = disk
    plugin = sweep.folder / "watch.py"
    plugin.write_text(
        plugin.read_text() + FILL.format(filler=str(disk / "filler"), fill=inspect.getsource(fill))
    )
    (sweep.control / "fill").touch()
    code, _, err = sweep.run("resources.max_failures=1")
    assert code == 1, err
    assert "Traceback" not in err
    states = sweep.states()
    assert states["failed"] == CELLS - states.get("done", 0)
    for reason in sweep.reasons:
        assert "No space left on device" in reason
        assert "; make room there" in reason
        assert len(reason.splitlines()) == 1
    (sweep.control / "fill").unlink()
    (disk / "filler").unlink()
    # Where a neighbour filled the disk before a checkpoint, its epoch.
    goes_on(sweep, reference, retrained=CELLS)
    tables = disk / sweep.name
    before = {path: path.read_bytes() for path in tables.rglob("*.*") if path.is_file()}
    fill(disk / "filler")
    code, _, err = command("aggregate", sweep.name, "--tracking-uri", sweep.uri)
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith(f"sweep: {tables}/")
    assert line.endswith(
        ": No space left on device; make room there and run the same command again"
    )
    (disk / "filler").unlink()
    assert {path: path.read_bytes() for path in tables.rglob("*.*") if path.is_file()} == before


def test_a_full_disk_that_uploads_empty(disk, tmp_path, tracker):
    """A spool with room for three files takes ten, a file as soon as another one is stored."""
    spool = disk("64k") or pytest.skip(NO_DISK)
    store = Store.create(tracker.uri, "empties")
    run = store._new("any", {"role": "any"})
    with Uploader(WhileOwned(store, RunClaim(tmp_path / "claim", "any")), run, spool) as uploader:
        for number in range(10):
            path = spool / f"{number}.bin"
            _as_room_comes(partial(path.write_bytes, bytes(20_000)), uploader)
            uploader.put([path.name])
    assert store.files(run) == {f"{number}.bin": 20_000 for number in range(10)}
    with Uploader(WhileOwned(store, RunClaim(tmp_path / "claim", "any")), run, spool) as uploader:
        write = partial((spool / "large.bin").write_bytes, bytes(100_000))
        with pytest.raises(OSError, match="No space left"):
            _as_room_comes(write, uploader)


# From epoch 2 on somebody else fills the disk, whenever there is room.
FILL = """
import contextlib

FILLER = Path({filler!r})

{fill}

def filled(spool, record, write=watched):
    if record.epoch >= 2 and (FOLDER / "fill").exists():
        # What waits would make room once it is stored.
        while any(path.is_file() for path in spool.rglob("*")):
            time.sleep(0.02)
        fill(FILLER)
    return write(spool, record)

if "RAY_RAYLET_PID" in os.environ:
    sweep.execution.trial.write_epoch = filled
"""


def test_a_damaged_epoch_file_of_a_finished_run(sweep, tracker, reference):
    train(sweep.file)
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
    code, out, _ = command("aggregate", sweep.name, "--no-figures", "--tracking-uri", tracker.uri)
    assert code == 1
    assert "expected the manifest's digest; got another" in out
    assert sweep.states() == {"done": 2, "failed": 1, "missing": 1}
    ends = sweep.ends()
    assert len(ends) == 2
    goes_on(sweep, reference, retrained=0, before=ends)
    # Two runs, each as a whole, and nothing of the others.
    assert len(sweep.trained()) == 2 * (EPOCHS + 1)


def test_a_damaged_file_of_a_half_trained_run(sweep, tracker, reference):
    runs = half_trained(sweep)
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
    assert sweep.trained() == {f"{run} {epoch}": 1 for run in runs for epoch in range(2, EPOCHS)}
    goes_on(sweep, reference, retrained=0)


def half_trained(sweep):
    """Train each cell in this process up to epoch 2 and its checkpoint; returns the run ids."""
    runs = []
    for run, places, training in by_hand(sweep.file, checkpoint_seconds=0):
        while next(training).epoch < 3:
            pass
        runs.append(run.run_id)
        spool = places.spool(run.run_id)
        until(lambda spool=spool: not any(p.is_file() for p in spool.rglob("*")), what="upload")
        training.close()
    return runs
