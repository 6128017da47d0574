"""What every place that keeps runs can do, and a sweep as it stands in one.

Finished runs are read from a ``RunStore``. Runs are trained into a ``TrainingStore``. A run is
named by its ``tracking_run``: what that is, each store decides for itself.
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

# How long a sweep that trains waits for a store that is away.
PATIENCE_S = 600.0
Spec_co = TypeVar("Spec_co", bound=RunsSpec, covariant=True)


class RunStore(Protocol):
    """Where runs are read."""

    @property
    def address(self) -> tuple[str, str, str] | None:
        """Arguments of ``tracking.Store`` for another process; None where runs are folders."""

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
        """Mark a run failed with its reason; one that is not final is started again next time."""


class RunWriter(Protocol):
    """Where the files and numbers of a run go while it trains."""

    def upload(self, tracking_run: str, path: Path, name: str) -> None:
        """Store a local file under a name, replacing an older one."""

    def log_epoch(self, tracking_run: str, epoch: int, summary: Mapping[str, float]) -> None:
        """Log an epoch's numbers; logging the same epoch again leaves no second point."""

    def finish(self, tracking_run: str) -> None:
        """Mark a run done."""

    def fail(self, tracking_run: str, reason: str, *, final: bool) -> None:
        """Mark a run failed with its reason; one that is not final is started again next time."""


class TrainingStore(RunStore, RunWriter, Protocol):
    """Where runs are trained into, and read again to go on."""

    def trace(self, run_id: str) -> Trace | None:
        """What is known of one run of the sweep; None if there is none of that ``run_id``."""

    def start_run(self, run: RunSpec, parent: str, tags: Mapping[str, str]) -> str:
        """Get or create a run, no longer failed; returns its ``tracking_run``."""


def manifest_of(store: RunStore, tracking_run: str) -> Manifest:
    """A finished run's table of contents, each of its files seen in the store.

    Raises:
        Damaged: If it is missing or unreadable, or a file it names is missing or of another size.
    """
    # Listed first: a store that goes away just now is no reason to train a run again.
    sizes = store.files(tracking_run)
    if MANIFEST not in sizes:
        raise Damaged(f"no {MANIFEST}")
    manifest = Manifest.from_json(store.read_text(tracking_run, MANIFEST))
    for name, (size, _) in manifest.files.items():
        if sizes.get(name) != size:
            raise Damaged(f"{name}: expected {size} bytes; the store has {sizes.get(name)}")
    return manifest


def inside(name: str) -> str:
    """The name of a run's file, which must not lead out of the run's folder.

    Raises:
        ValueError: If it does.
    """
    if not name or name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        raise ValueError(f"expected a name inside the run's own folder; got {name!r}")
    return name


@dataclass(frozen=True, kw_only=True)
class Sweep(Generic[Spec_co]):
    """A sweep, or runs that others recorded, as they stand.

    Args:
        spec: What is asked of the runs.
        proposals: Configurations, in the order of proposal.
        cells: Every (configuration, seed) that is due or was recorded.
        due: Seeds that are due and why, by configuration id; empty for recorded runs.
        notes: What a reader of the tables has to know.
    """

    spec: Spec_co
    proposals: Sequence[Proposal]
    cells: Sequence[Cell]
    due: Mapping[str, Due] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def recorded(self) -> bool:
        """Whether the runs come from training loops of others, so that their dataset is unknown."""
        return self.spec.dataset is None
