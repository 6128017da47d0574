"""Interfaces of the stores that keep runs, and a sweep as read from one.

Finished runs are read from a ``RunStore``. Runs are trained into a ``TrainingStore``. A run is
named by its ``tracking_run``, an id or a path that each store chooses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from hardness.dynamics.folder import MANIFEST, Manifest
from hardness.files import Damaged
from sweep.experiment.runs import Cell, Proposal, RunSpec, Trace
from sweep.experiment.spec import RunsSpec
from sweep.planning.due_cells import Due

# Seconds that a training sweep waits for a store that is away.
PATIENCE_S = 600.0
Spec_co = TypeVar("Spec_co", bound=RunsSpec, covariant=True)


class RunStore(Protocol):
    """A store from which runs are read."""

    @property
    def address(self) -> tuple[str, str, str] | None:
        """Arguments of ``mlflow_store.Store`` for another process; None where runs are folders."""

    def local_folder(self, tracking_run: str) -> Path | None:
        """The folder with a run's files, if this machine can read them there."""

    def files(self, tracking_run: str) -> dict[str, int]:
        """Names of a run's files, with their sizes in bytes."""

    def read_text(self, tracking_run: str, name: str) -> str:
        """The text of a small file.

        Raises:
            OSError: If the run has no such file, or the store does not answer.
        """

    def download(self, tracking_run: str, name: str, folder: Path) -> Path:
        """Copy a file below a local folder, under the same name; returns its path.

        Raises:
            OSError: If the run has no such file, or the store does not answer.
        """

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark a run failed with its reason; it is started again unless the failure is final."""


class RunWriter(Protocol):
    """A store into which a run writes files and numbers while it trains."""

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Store a local file under a name, replacing an older one."""

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Log an epoch's numbers; logging the same epoch again leaves no second point."""

    def finish(self, tracking_run: str) -> None:
        """Mark a run done."""

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark a run failed with its reason; it is started again unless the failure is final."""


class TrainingStore(RunStore, RunWriter, Protocol):
    """A store for training: runs are written, and read again to go on."""

    def trace(self, run_id: str) -> Trace | None:
        """What is known of one run of the sweep; None if there is no such run."""

    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:
        """Get or create a run, no longer failed; returns its ``tracking_run``."""


def manifest_of(store: RunStore, tracking_run: str) -> Manifest:
    """A finished run's manifest, after a check that the store has each file in it.

    Raises:
        Damaged: If the manifest is missing or unreadable, or one of its files is missing or has
            another size.
    """
    # Files are listed first, so that a store that is away now does not look like a damaged run.
    sizes = store.files(tracking_run)
    if MANIFEST not in sizes:
        raise Damaged(f"no {MANIFEST}")
    manifest = Manifest.from_json(store.read_text(tracking_run, MANIFEST))
    for name, (size, _) in manifest.files.items():
        if sizes.get(name) != size:
            raise Damaged(f"{name}: expected {size} bytes; got {sizes.get(name)} in the store")
    return manifest


def inside(name: str) -> str:
    """The name of a run's file, checked to stay inside the run's folder.

    Raises:
        ValueError: If the name leads out of the folder.
    """
    if not name or name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        raise ValueError(f"expected a name inside the run's own folder; got {name!r}")
    return name


@dataclass(frozen=True, kw_only=True)
class Sweep(Generic[Spec_co]):
    """A sweep, or runs that other programs recorded, in their present state.

    Args:
        spec: Regimens, metrics and other settings that the tables depend on.
        proposals: Configurations, in the order of proposal.
        cells: Every (configuration, seed) that is due or was recorded.
        due: Seeds that are due and the looks behind them, by configuration id; empty for recorded
            runs.
        notes: Lines that a reader of the tables must know.
    """

    spec: Spec_co
    proposals: Sequence[Proposal]
    cells: Sequence[Cell]
    due: Mapping[str, Due] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def recorded(self) -> bool:
        """Whether other programs trained the runs, so that their dataset is unknown."""
        return self.spec.dataset is None
