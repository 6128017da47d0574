"""Where a run reads and writes, and what it reports while it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hardness.dynamics.record import Recording
from sweep.experiment.plugins import Plugin
from sweep.store.run_store import TrainingStore


def spool(storage_path: str, run_id: str) -> Path:
    """Folder of a run's files that are not uploaded yet."""
    return Path(storage_path) / "spool" / run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a run reads and writes; nothing here changes a result.

    Args:
        store: The sweep's store; not in the repr, because its address may contain credentials.
        name: The sweep's name.
        storage_path: Folder for checkpoints and spool, shared between nodes on a cluster.
        recording: Signals and snapshots to record.
        checkpoint_seconds: Least time between two checkpoints of a run.
        spool_gib: Size of the files that may wait for upload; beyond it, training waits.
        plugins: The user's own metrics.
        tags: Further tags of each run, such as the git commit.
    """

    store: TrainingStore = field(repr=False)
    name: str
    storage_path: str
    recording: Recording = field(default_factory=Recording)
    checkpoint_seconds: float = 10.0
    spool_gib: float = 4.0
    plugins: tuple[Plugin, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def spool(self, run_id: str) -> Path:
        """Folder of a run's files that are not uploaded yet."""
        return spool(self.storage_path, run_id)

    def checkpoints(self, run_id: str) -> Path:
        """Folder of the checkpoints of an unfinished run."""
        return Path(self.storage_path) / "checkpoints" / run_id

    def claim(self, run_id: str) -> Path:
        """File that names the process that trains an unfinished run."""
        return Path(self.storage_path) / "claims" / run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report of a run while it trains.

    Args:
        run_id: Id of the run; empty if ``state`` is ``lost``.
        epoch: Number of finished epochs.
        epochs: Number of all epochs.
        state: ``failed`` is the run's last report and has a reason. ``lost`` means a whole pack
            that could not end because storage or tracker failed.
        reason: Why the run failed; empty otherwise.
        summary: Numbers that summarise the epoch, by name.
    """

    run_id: str
    epoch: int
    epochs: int
    state: Literal["running", "done", "failed", "lost"] = "running"
    reason: str = ""
    summary: Mapping[str, float] = field(default_factory=dict)
