"""Training one pack in this process: train, spool, upload, checkpoint, commit."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from hardness.data.datasets import Dataset
from hardness.data.parts import positions_of, pruned
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.checkpoint import Checkpoint
from hardness.dynamics.folder import (
    Manifest,
    epoch_file,
    read_summary,
    samples_table,
    write_epoch,
    write_manifest,
    write_samples,
    write_spec,
)
from hardness.dynamics.provenance import circumstances
from hardness.dynamics.record import INIT, Diverged, EpochRecord, Recording
from hardness.files import FULL, atomic_write, fingerprint
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.training import REGIMENS, Regimen
from hardness.training.passes import schedule
from sweep.execution.places import Places, Progress
from sweep.experiment.runs import Configuration, Pack, RunSpec, Trace, canonical_json
from sweep.experiment.sections import options
from sweep.store.ownership import RunClaim, RunTaken, WhileOwned, claimed_for
from sweep.store.run_store import RunWriter, TrainingStore
from sweep.store.uploading import Uploader, patiently

# File with name, size and digest of every file that a checkpoint relies on.
LEDGER = "files.json"
_T = TypeVar("_T")
_Prints = dict[str, tuple[int, str]]


def run_pack(pack: Pack, dataset: Dataset, places: Places) -> Iterator[Progress]:
    """Train a pack's seeds one after another.

    A seed that diverges or raises is marked as failed after its files are stored, and the next seed
    starts. A seed that is done, with everything that has to be recorded, is skipped.

    Args:
        pack: Configuration and seeds to train.
        dataset: The dataset whose digest the configuration names.
        places: Where runs read and write.

    Raises:
        OSError: If storage or tracker fail in spite of retries; the pack may be started again.
        ValueError: If the dataset has another digest.
    """
    expected = pack.configuration.dataset["digest"]
    if dataset.digest != expected:
        raise ValueError(f"expected the dataset of digest {expected}; got {dataset.digest}")
    for plugin in places.plugins:
        plugin.load()
    training = _Training.of(pack.configuration, places.recording)
    for seed in pack.seeds:
        run = RunSpec(configuration=pack.configuration, seed=seed)
        try:
            yield from _one(run, pack.parent_run, training, dataset, places)
        except RunTaken:
            # Another process trains this run, and the rest of the pack after it.
            return
        except OSError as error:
            if error.errno not in FULL:
                raise
            said = f"{error.strerror}; make room there and start the sweep again"
            raise OSError(error.errno, said, error.filename or places.storage_path) from error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """How a configuration is trained, built once from its plain values.

    Args:
        regimen: The regimen.
        options: Options of the regimen.
        model: Options of the network.
        recording: Signals and snapshots to record.
        passes: Names of the scoring passes, each with the epochs in which it is made.
    """

    regimen: Regimen
    options: Any
    model: ModelOptions
    recording: Recording
    passes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, configuration: Configuration, recording: Recording) -> "_Training":
        """The training of a configuration.

        Raises:
            ValueError: If an option is invalid.
        """
        regimen = REGIMENS[configuration.regimen]
        chosen = options(regimen.options, configuration.options)
        return cls(
            regimen=regimen,
            options=chosen,
            model=options(ModelOptions, configuration.model),
            recording=recording,
            passes=schedule(regimen.passes, recording, chosen.epochs),
        )

    @property
    def epochs(self) -> int:
        """Number of epochs that a run records."""
        return int(self.options.epochs)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that a run records; those of scoring passes come last."""
        of_passes = (signal for name in self.passes for signal in self.regimen.passes[name].signals)
        return (*self.regimen.signals, *of_passes)

    def is_done(self, trace: Trace | None) -> bool:
        """Whether a run is done, with everything that has to be recorded."""
        if trace is None or trace.state != "done":
            return False
        snapshots = {*self.regimen.snapshots} & {*self.recording.snapshots}
        made = {name: {*trace.passes.get(name, ())} for name in self.passes}
        return {*self.signals, *snapshots} <= trace.signals and all(
            {*epochs} <= made[name] for name, epochs in self.passes.items()
        )

    def records(
        self, run: RunSpec, dataset: Dataset, device: torch.device, resume: Checkpoint | None
    ) -> Iterator[EpochRecord]:
        """Train a run, from a checkpoint if there is one."""
        configuration = run.configuration
        return self.regimen.train(
            _without_truth(dataset),
            self.model,
            self.options,
            Streams(seed=run.seed, salt=configuration.configuration_id, vary=configuration.vary),
            device=device,
            recording=self.recording,
            resume=resume,
        )


def _one(
    run: RunSpec, parent_run: str, training: _Training, dataset: Dataset, places: Places
) -> Iterator[Progress]:
    """Train one seed, unless it is done already."""
    if training.is_done(places.store.trace(run.run_id)):
        # This pack had finished the run before its process was lost.
        _forget(run.run_id, places)
        epochs = training.epochs
        yield Progress(run_id=run.run_id, epoch=epochs, epochs=epochs, state="done")
        return
    claim = RunClaim(places.claim(run.run_id), places.name)
    tracking_run = places.store.start_run(run, parent_run, places.tags)
    try:
        kept = positions_of(dataset, run.configuration.dataset.get("part"), seed=run.seed)
        yield from _run(run, tracking_run, training, pruned(dataset, kept), places, claim)
    except (OSError, RunTaken):
        raise
    except Exception as error:  # noqa: BLE001 - the other seeds go on
        reason = str(error)
        if not isinstance(error, Diverged):
            reason = f"{type(error).__name__}: {reason}"
        WhileOwned(places.store, claim).fail(tracking_run, reason, final=True)
        _forget(run.run_id, places)
        yield Progress(run_id=run.run_id, epoch=0, epochs=0, state="failed", reason=reason)


def _run(
    run: RunSpec,
    tracking_run: str,
    training: _Training,
    dataset: Dataset,
    places: Places,
    claim: RunClaim,
) -> Iterator[Progress]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spool, folder = places.spool(run.run_id), places.checkpoints(run.run_id)
    epochs = training.epochs
    _forget_another_recording(folder, training)
    resume, stored, written = _resume(places.store, tracking_run, spool, folder)
    noted = _Prints()
    snapshots = set[str]()
    owned = WhileOwned(places.store, claim)
    with Uploader(owned, tracking_run, spool, spool_bytes=places.spool_gib * 2**30) as uploader:
        uploader.sent.update(stored)
        uploader.put(_describe(run, dataset, spool, device))
        _put_spooled(range(INIT, resume.epoch + 1 if resume else INIT), uploader)
        saved = time.monotonic()
        for record in training.records(run, dataset, device, resume):
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
        signals=(*training.signals, *sorted(snapshots)),
        files=uploader.sent,
        passes=training.passes,
    )
    _commit(owned, tracking_run, spool, manifest)
    _forget(run.run_id, places)
    yield Progress(run_id=run.run_id, epoch=epochs, epochs=epochs, state="done")


def _put_spooled(epochs: Iterable[int], uploader: Uploader) -> None:
    """Queue the files of these epochs that are in the spool and not yet uploaded."""
    for epoch in epochs:
        if (name := epoch_file(epoch)) not in uploader.sent:
            uploader.put([name], epoch=epoch, summary=read_summary(uploader.spool / name))


def _as_room_comes(write: Callable[[], _T], uploader: Uploader) -> _T:
    """Write to the spool; while the disk is full, wait for uploads that make room.

    Raises:
        OSError: If the disk is full and nothing waits to be uploaded, or uploads fail for good.
    """
    while True:
        # Ask the uploader: the spool may also hold files of an earlier attempt.
        waiting = uploader.waits
        try:
            return write()
        except OSError as error:
            if error.errno not in FULL or not waiting:
                raise
        uploader.make_room()


def _checkpointed(checkpoint: Checkpoint, folder: Path, written: _Prints, noted: _Prints) -> bool:
    """Save a checkpoint and the digests of the files that it relies on; False if the disk is full.

    A run without its checkpoint may train some epochs again, which is no reason to stop.
    """
    try:
        save_checkpoint(checkpoint, folder)
        for path in folder.glob("*.safetensors"):
            if path.name not in noted:
                noted[path.name] = fingerprint(path)
        with atomic_write(folder / LEDGER) as unfinished:
            unfinished.write_text(json.dumps({**written, **noted}))
    except OSError as error:
        if error.errno not in FULL:
            raise
        return False
    return True


def _without_truth(dataset: Dataset) -> Dataset:
    """The dataset without the columns that say what is planted or what its source knows."""
    return dataclasses.replace(dataset, columns=dataset.columns.iloc[:, :0])


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint and keep the two newest, because the newest may be unusable."""
    checkpoints.save(checkpoint, folder)
    for _, path in checkpoints.newest_first(folder)[2:]:
        path.unlink(missing_ok=True)


def _resume(
    store: TrainingStore, tracking_run: str, spool: Path, folder: Path
) -> tuple[Checkpoint | None, _Prints, _Prints]:
    """The newest checkpoint whose epoch files are all stored or spooled, and these files.

    Files are read back and compared with their digests; an epoch with a changed file is trained
    again. A run without a checkpoint starts anew and overwrites its spool with the same files.

    Returns:
        The checkpoint, the stored files of its epochs, and all files of its epochs.
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
    """Size and digest of the files that a checkpoint relies on; empty if unreadable."""
    try:
        content = json.loads((folder / LEDGER).read_bytes())
        return {str(name): (int(size), str(digest)) for name, (size, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _forget_another_recording(folder: Path, training: _Training) -> None:
    """Delete the checkpoints if their training recorded something else; the run starts anew.

    Its earlier epochs lack signals. The case is rare, and the new run gives the same results.
    """
    recording = training.recording
    asked = json.dumps(
        {"signals": recording.signals, "snapshots": recording.snapshots, "passes": training.passes}
    )
    note = folder / "recording.json"
    if note.is_file() and note.read_text() == asked:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(asked)


def _stored_epochs(store: TrainingStore, tracking_run: str, folder: Path) -> _Prints:
    found = _Prints()
    for name in store.files(tracking_run):
        if name.startswith("dynamics/"):
            path = store.download(tracking_run, name, folder)
            found[name] = fingerprint(path)
            path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _is(path: Path, expected: tuple[int, str] | None) -> bool:
    """Whether a file exists and has the expected size and digest."""
    return expected is not None and path.is_file() and fingerprint(path) == expected


def _describe(run: RunSpec, dataset: Dataset, spool: Path, device: torch.device) -> list[str]:
    """Write the run's samples and its spec into the spool; returns their names."""
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


def _commit(store: RunWriter, tracking_run: str, spool: Path, manifest: Manifest) -> None:
    """Store the manifest: from here on the run is done."""
    name = write_manifest(spool, manifest)
    patiently(partial(store.upload, tracking_run, spool / name, name))
    store.finish(tracking_run)


def forget_ended(run_id: str, places: Places) -> None:
    """Delete the leftover files of a run whose process was lost just after the run ended."""
    if claimed_for(places.claim(run_id)) == places.name:
        _forget(run_id, places)


def _forget(run_id: str, places: Places) -> None:
    """Delete the files that only an unfinished run needs; the claim comes last."""
    shutil.rmtree(places.spool(run_id), ignore_errors=True)
    shutil.rmtree(places.checkpoints(run_id), ignore_errors=True)
    places.claim(run_id).unlink(missing_ok=True)
