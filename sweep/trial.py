"""One pack, start to finish, in this process: train, spool, upload, checkpoint, commit."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from hardness import checkpoint as checkpoints
from hardness.checkpoint import Checkpoint
from hardness.datasets import Dataset
from hardness.dynamics import (
    INIT,
    Diverged,
    Manifest,
    Recording,
    epoch_file,
    read_summary,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
    write_spec,
)
from hardness.files import fingerprint
from hardness.options import ModelOptions
from hardness.provenance import circumstances
from hardness.pruning import positions_of, pruned
from hardness.seeding import Streams
from hardness.training import REGIMENS
from hardness.training.passes import schedule
from sweep import disk
from sweep.claim import Claim, Guarded, Lost, claimed_for
from sweep.experiment_file import options
from sweep.spec import Pack, Places, Progress, RunSpec, canonical_json
from sweep.tracking import PATIENCE_S, Store
from sweep.uploading import Uploader

# Names, sizes and digests of the files that a half-trained run can go on from.
LEDGER = "files.json"
_T = TypeVar("_T")
_Prints = dict[str, tuple[int, str]]


def run_pack(pack: Pack, dataset: Dataset, places: Places) -> Iterator[Progress]:
    """Train a pack's seeds one after another.

    A seed that diverges or breaks is recorded as failed, once all that it recorded is stored, and
    the next one goes on. A seed that is done already, with all that is to be recorded, is left
    alone.

    Args:
        pack: What to train.
        dataset: Its content has to be the one whose digest the configuration names.
        places: Where to.

    Raises:
        OSError: If storage or tracker fail for good; the pack may be started again.
        ValueError: If the dataset is another one.
    """
    expected = pack.configuration.dataset["digest"]
    if dataset.digest != expected:
        raise ValueError(f"expected the dataset of digest {expected}; got {dataset.digest}")
    for plugin in places.plugins:
        plugin.load()
    store = Store(places.tracking_uri, places.experiment_id, places.name, PATIENCE_S)
    for seed in pack.seeds:
        run = RunSpec(configuration=pack.configuration, seed=seed)
        try:
            yield from _one(run, pack.parent_run, dataset, store, places)
        except Lost:
            # Whoever has taken this run up goes on with the rest of the pack too.
            return
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            said = f"{error.strerror}; make room there and start the sweep again"
            raise OSError(error.errno, said, error.filename or places.storage_path) from error


def _one(
    run: RunSpec, parent_run: str, dataset: Dataset, store: Store, places: Places
) -> Iterator[Progress]:
    """Train one seed, unless it is done already."""
    if epochs := _done(run, store, places.recording):
        # By this pack, before its process was lost.
        _forget(run.run_id, places)
        yield Progress(run_id=run.run_id, epoch=epochs, epochs=epochs, state="done")
        return
    claim = Claim(places.claim(run.run_id), places.name)
    tracking_run = store.start_run(run, parent_run, places.tags)
    try:
        kept = positions_of(dataset, run.configuration.part, seed=run.seed)
        yield from _run(run, tracking_run, pruned(dataset, kept), store, places, claim)
    except (OSError, Lost):
        raise
    except Exception as error:  # noqa: BLE001 - this seed's result; the others go on
        reason = str(error)
        if not isinstance(error, Diverged):
            reason = f"{type(error).__name__}: {reason}"
        Guarded(store, claim).fail(tracking_run, reason, final=True)
        _forget(run.run_id, places)
        yield Progress(run_id=run.run_id, epoch=0, epochs=0, state="failed", reason=reason)


def _done(run: RunSpec, store: Store, recording: Recording) -> int:
    """Epochs of a run that is done with all that is to be recorded; 0 if it is to be trained."""
    trace = store.trace(run.run_id)
    if trace is None or trace.state != "done":
        return 0
    regimen = REGIMENS[run.configuration.regimen]
    epochs = options(regimen.options, run.configuration.options).epochs
    passes = schedule(regimen.passes, recording, epochs)
    recorded = {*regimen.signals, *({*regimen.snapshots} & {*recording.snapshots})}
    recorded |= {signal for name in passes for signal in regimen.passes[name].signals}
    made = {name: {*trace.passes.get(name, ())} for name in passes}
    whole = recorded <= trace.signals and all({*e} <= made[name] for name, e in passes.items())
    return epochs if whole else 0


def _run(
    run: RunSpec, tracking_run: str, dataset: Dataset, store: Store, places: Places, claim: Claim
) -> Iterator[Progress]:
    regimen = REGIMENS[run.configuration.regimen]
    chosen = options(regimen.options, run.configuration.options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spool, folder = places.spool(run.run_id), places.checkpoints(run.run_id)
    epochs = chosen.epochs
    passes = schedule(regimen.passes, places.recording, epochs)
    _forget_another_recording(folder, places.recording, passes)
    resume, stored, written = _resume(store, tracking_run, spool, folder)
    noted = _Prints()
    snapshots = set[str]()
    guarded = Guarded(store, claim)
    with Uploader(guarded, tracking_run, spool, spool_bytes=places.spool_gib * 2**30) as uploader:
        uploader.sent.update(stored)
        uploader.put(_describe(run, dataset, spool, device))
        for epoch in range(INIT, resume.epoch + 1 if resume else INIT):
            if epoch_file(epoch) not in stored:
                summary = read_summary(spool / epoch_file(epoch))
                uploader.put([epoch_file(epoch)], epoch=epoch, summary=summary)
        records = regimen.train(
            _without_truth(dataset),
            options(ModelOptions, run.configuration.model),
            chosen,
            Streams(
                seed=run.seed,
                salt=run.configuration.configuration_id,
                vary=run.configuration.vary,
            ),
            device=device,
            recording=places.recording,
            resume=resume,
        )
        saved = time.monotonic()
        for record in records:
            claim.check()
            files = _as_room_comes(partial(write_epoch, spool, record), uploader)
            written |= {name: fingerprint(spool / name) for name in files}
            uploader.put(files, epoch=record.epoch, summary=record.summary)
            snapshots |= record.snapshots.keys()
            last = record.epoch == epochs - 1
            if not last and time.monotonic() - saved >= places.checkpoint_seconds:
                claim.check()
                if _checkpointed(record.checkpoint(), folder, written, noted):
                    saved = time.monotonic()
            if record.epoch > INIT:
                yield Progress(
                    run_id=run.run_id, epoch=record.epoch + 1, epochs=epochs, summary=record.summary
                )
    manifest = Manifest(
        epochs=epochs,
        rows=len(dataset.train.labels),
        signals=(
            *regimen.signals,
            *(signal for name in passes for signal in regimen.passes[name].signals),
            *sorted(snapshots),
        ),
        files=uploader.sent,
        passes=passes,
    )
    _commit(guarded, tracking_run, spool, manifest)
    _forget(run.run_id, places)
    yield Progress(run_id=run.run_id, epoch=epochs, epochs=epochs, state="done")


def _as_room_comes(write: Callable[[], _T], uploader: Uploader) -> _T:
    """Write to the spool; while the disk is full, wait for uploads that make room.

    Raises:
        OSError: If the disk is full and nothing waits to be uploaded, or uploads fail for good.
    """
    while True:
        # Not what lies in the spool: that may be of an attempt that broke off.
        waiting = uploader.waits
        try:
            return write()
        except OSError as error:
            if error.errno not in disk.FULL or not waiting:
                raise
        uploader.make_room()


def _checkpointed(checkpoint: Checkpoint, folder: Path, written: _Prints, noted: _Prints) -> bool:
    """Save a checkpoint and what has to be whole for it to be used; False if the disk is full.

    Without the checkpoint some epochs may be trained again, which is no reason to stop now.
    """
    try:
        save_checkpoint(checkpoint, folder)
        for path in folder.glob("*.safetensors"):
            if path.name not in noted:
                noted[path.name] = fingerprint(path)
        with disk.whole(folder / LEDGER) as unfinished:
            unfinished.write_text(json.dumps({**written, **noted}))
    except OSError as error:
        if error.errno not in disk.FULL:
            raise
        return False
    return True


def _without_truth(dataset: Dataset) -> Dataset:
    """What a training may see: neither where hardness is planted nor what the source says."""
    return dataclasses.replace(dataset, columns=dataset.columns.iloc[:, :0])


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint and drop all but the two newest: the newest may prove unusable."""
    checkpoints.save(checkpoint, folder)
    for _, path in checkpoints.newest_first(folder)[2:]:
        path.unlink(missing_ok=True)


def _resume(
    store: Store, tracking_run: str, spool: Path, folder: Path
) -> tuple[Checkpoint | None, _Prints, _Prints]:
    """The newest checkpoint all of whose epochs are stored or spooled, and these files.

    Files are read back to know that they are still what was written; whatever is not is trained
    again. So is a run without a checkpoint, whatever its spool holds: it comes out the same, over
    the same names.

    Returns:
        The checkpoint, which of its epochs' files are stored, and all of its epochs' files.
    """
    ledger = _ledger(folder)
    for path in folder.glob("*.safetensors"):
        if ledger.get(path.name) != fingerprint(path):
            path.unlink()
    candidates = checkpoints.newest_first(folder)
    if not candidates:
        return None, {}, {}
    found = _stored_epochs(store, tracking_run, spool.with_suffix(".check"))
    stored = {name: it for name, it in found.items() if ledger.get(name) == it}
    for epoch, path in candidates:
        names = [epoch_file(e) for e in range(INIT, epoch + 1)]
        if all(name in stored or _is(spool / name, ledger.get(name)) for name in names):
            checkpoint = checkpoints.load(path)
            if checkpoint is not None:
                there = {name: stored[name] for name in names if name in stored}
                return checkpoint, there, {name: ledger[name] for name in names}
    return None, {}, {}


def _ledger(folder: Path) -> _Prints:
    """What a checkpoint relies on, as it was written; empty if that is not to be known."""
    try:
        content = json.loads((folder / LEDGER).read_bytes())
        return {str(name): (int(size), str(digest)) for name, (size, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _forget_another_recording(
    folder: Path, recording: Recording, passes: Mapping[str, tuple[int, ...]]
) -> None:
    """Drop the checkpoints of a training that recorded otherwise: its epochs lack what is asked.

    Asking for another metric of a half-trained run is rare, and trained again it comes out the
    same.
    """
    asked = json.dumps(
        {"signals": recording.signals, "snapshots": recording.snapshots, "passes": passes}
    )
    note = folder / "recording.json"
    if note.is_file() and note.read_text() == asked:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(asked)


def _stored_epochs(store: Store, tracking_run: str, folder: Path) -> _Prints:
    found = _Prints()
    for name in store.files(tracking_run):
        if name.startswith("dynamics/"):
            path = store.download(tracking_run, name, folder)
            found[name] = fingerprint(path)
            path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _is(path: Path, expected: tuple[int, str] | None) -> bool:
    """Whether a file is there and is what it was."""
    return expected is not None and path.is_file() and fingerprint(path) == expected


def _describe(run: RunSpec, dataset: Dataset, spool: Path, device: torch.device) -> list[str]:
    """Spool what says what this run is: its samples and its spec."""
    train = dataset.train
    table = samples_table(
        sample_ids=train.sample_ids.tolist(), labels=train.labels.tolist(), columns=dataset.columns
    )
    name = write_samples(spool, table)
    content = {
        "run_id": run.run_id,
        "configuration_id": run.configuration.configuration_id,
        "run": json.loads(canonical_json(run)),
        "classes": list(dataset.classes),
        **circumstances(device),
    }
    return [name, write_spec(spool, content)]


def _commit(store: Guarded, tracking_run: str, spool: Path, manifest: Manifest) -> None:
    """Store the manifest: from here on the run is done."""
    uploader = Uploader(store, tracking_run, spool)
    uploader.put([write_manifest(spool, manifest)])
    uploader.close()
    store.finish(tracking_run)


def forget_ended(run_id: str, places: Places) -> None:
    """Drop what a process left that was lost after its run had ended and before it was put down."""
    if claimed_for(places.claim(run_id)) == places.name:
        _forget(run_id, places)


def _forget(run_id: str, places: Places) -> None:
    """Drop what only an unfinished run needs; that it was taken up last of all."""
    shutil.rmtree(places.spool(run_id), ignore_errors=True)
    shutil.rmtree(places.checkpoints(run_id), ignore_errors=True)
    places.claim(run_id).unlink(missing_ok=True)
