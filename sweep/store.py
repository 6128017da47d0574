"""What every place that keeps runs can do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# How long a sweep that trains waits for a store that is away.
PATIENCE_S = 600.0


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
