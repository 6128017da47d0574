"""Where a run reads, writes and computes, and what it reports while it goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hardness.dynamics.record import Recording
from sweep.experiment.plugins import Plugin
from sweep.store.run_store import TrainingStore


def spool(storage_path: str, run_id: str) -> Path:
    """Files of a run that are not stored yet."""
    return Path(storage_path) / "spool" / run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a run reads, writes and computes; none of it changes a number.

    Args:
        store: The sweep's; never shown, since its address may bear credentials.
        name: The sweep's name.
        storage_path: Folder for checkpoints and spool, shared between nodes on a cluster.
        recording: What to keep.
        checkpoint_seconds: Least time between two checkpoints of a run.
        spool_gib: What may wait to be uploaded before training waits.
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
        """Files of a run that are not stored yet."""
        return spool(self.storage_path, run_id)

    def checkpoints(self, run_id: str) -> Path:
        """States of a run that is not done yet."""
        return Path(self.storage_path) / "checkpoints" / run_id

    def claim(self, run_id: str) -> Path:
        """Says which process works on a run that is not done yet."""
        return Path(self.storage_path) / "claims" / run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a run reports while it goes.

    Args:
        run_id: Whose.
        epoch: Finished epochs.
        epochs: All epochs.
        state: ``failed`` comes with a reason, as the run's last report; ``lost`` is said of a pack
            that storage or tracker did not let end.
        reason: Why it failed.
        summary: The epoch's numbers.
    """

    run_id: str
    epoch: int
    epochs: int
    state: Literal["running", "done", "failed", "lost"] = "running"
    reason: str = ""
    summary: Mapping[str, float] = field(default_factory=dict)
