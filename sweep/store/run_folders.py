"""Runs in plain folders, without a tracker; ``tracking_run`` is the folder's path."""

import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hardness.dynamics.folder import epoch_file, read_summary
from hardness.files import Damaged, atomic_write
from sweep.experiment.runs import RunSpec, Trace
from sweep.store.run_store import inside, manifest_of

# File with the reason of a failure, deleted when the run is started again.
FAILURE = "failure.json"


class RunFolders:
    """Folders of runs for reading; nothing is written, since they may belong to others."""

    address = None

    def local_folder(self, tracking_run: str) -> Path:
        """The run's folder."""
        return Path(tracking_run)

    def files(self, tracking_run: str) -> dict[str, int]:
        """Names of a run's files, with their sizes in bytes."""
        folder = Path(tracking_run)
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}

    def read_text(self, tracking_run: str, name: str) -> str:
        """The text of a small file."""
        return (Path(tracking_run) / inside(name)).read_text()

    def download(self, tracking_run: str, name: str, folder: Path) -> Path:
        """Copy a file below another folder, under the same name; returns its path."""
        target = folder / inside(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            shutil.copyfile(Path(tracking_run) / name, partial)
        return target

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Do nothing: the folder may belong to others, and the tables name the failed seed."""


class TrainingFolders(RunFolders):
    """Folders of runs for training, each named by its run id.

    Args:
        root: Parent folder of the runs' folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def trace(self, run_id: str) -> Trace | None:
        """What is known of one run; None if it has no folder."""
        folder = self.root / run_id
        if not folder.is_dir():
            return None
        files = self.files(str(folder))
        epochs = next(n for n in itertools.count() if epoch_file(n) not in files)
        found = Trace(tracking_run=str(folder), state="missing", epochs=epochs)
        if FAILURE in files:
            return replace(found, state="failed", **json.loads((folder / FAILURE).read_text()))
        try:
            manifest = manifest_of(self, str(folder))
            objectives = read_summary(folder / epoch_file(manifest.epochs - 1))
        except Damaged as error:
            return replace(found, reason=str(error))
        return replace(
            found,
            state="done",
            signals=frozenset(manifest.signals),
            passes=manifest.passes,
            objectives=objectives,
        )

    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:  # noqa: ARG002
        """Get or create a run's folder; parent and tags are not kept."""
        folder = self.root / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE).unlink(missing_ok=True)
        return str(folder)

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Copy a local file into the run's folder, replacing an older one."""
        target = Path(tracking_run) / inside(name)
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as partial:
            shutil.copyfile(path, partial)

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Do nothing: the epoch's file has its numbers."""

    def finish(self, tracking_run: str) -> None:
        """Do nothing: the manifest makes a run done."""

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Write the reason of the failure into the run's folder."""
        with atomic_write(Path(tracking_run) / FAILURE) as partial:
            partial.write_text(json.dumps({"reason": reason, "final": final}))
