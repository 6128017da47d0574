"""The progress display of a sweep: a bar on a terminal, one line per cell elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hardness.training import REGIMENS
from sweep.execution.places import Progress
from sweep.experiment.runs import Cell
from sweep.experiment.sections import options
from sweep.experiment.spec import SweepSpec


class Display:
    """Cells done, running and failed, epochs, and the time left, while a sweep trains.

    Args:
        spec: The sweep's spec.
        cells: The cells at the start; a search or adaptive seeds may add more.
        console: Console to draw on; by default standard error, since results go to standard output.
    """

    def __init__(
        self, spec: SweepSpec, cells: Sequence[Cell], console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True)
        self._cells = {c.run.run_id: c for c in cells}
        self._epochs: dict[str, tuple[int, int]] = {}
        ended = (c.state for c in cells if c.state in ("done", "failed"))
        self._states: Counter[str] = Counter(ended)
        self._already = self._states["done"]
        self._total = len(cells)
        self._started = time.monotonic()
        self._expected = {c.run.run_id: _epochs(c) for c in cells if c.state != "done"}
        self._ended: set[str] = set()
        self._bar = rich.progress.Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            spec.name, total=max(1, sum(self._expected.values())), note=self._note()
        )

    def __enter__(self) -> Self:
        if self._already:
            self._console.print(f"{self._already} of {self._total} cells are done already")
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def include(self, cells: Sequence[Cell]) -> None:
        """Add cells that have become due since the start."""
        new = [c for c in cells if c.run.run_id not in self._cells]
        self._cells |= {c.run.run_id: c for c in new}
        self._expected |= {c.run.run_id: _epochs(c) for c in new if c.state != "done"}
        self._states.update(c.state for c in new if c.state in ("done", "failed"))
        self._total += len(new)

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        """Show one report of a run; an epoch that is trained again counts once."""
        run_id = progress.run_id
        if progress.epochs:
            before = self._epochs.get(run_id, (0, 0))[0]
            self._epochs[run_id] = (max(before, progress.epoch), progress.epochs)
            self._expected[run_id] = progress.epochs
        if progress.state in ("done", "failed") and run_id not in self._ended:
            self._ended.add(run_id)
            self._states[progress.state] += 1
            self._tell_of(progress)
        self._bar.update(
            self._task,
            completed=sum(done for done, _ in self._epochs.values()),
            total=sum(self._expected.values()),
            note=self._note(),
        )

    def _tell_of(self, progress: Progress) -> None:
        cell = self._cells.get(progress.run_id)
        who = progress.run_id
        if cell is not None:
            who = f"{cell.run.configuration.regimen} {who} seed {cell.run.seed}"
        if progress.state == "failed":
            self._console.print(f"failed: {who}: {progress.reason}", style="red", markup=False)
        elif not self._console.is_terminal:
            ended = self._states["done"] + self._states["failed"]
            total = max(self._total, ended)
            self._console.print(f"{ended}/{total} done: {who}{self._left()}", markup=False)

    def _left(self) -> str:
        done = sum(d for d, _ in self._epochs.values())
        left = sum(self._expected.values()) - done
        seconds = (time.monotonic() - self._started) / max(done, 1) * left
        return f"; about {timedelta(seconds=round(seconds))} left" if left else ""

    def _note(self) -> str:
        running = sum(1 for r in self._epochs if r not in self._ended)
        note = f"· {self._states['done']}/{max(self._total, len(self._ended))} cells done"
        note += f", {running} running"
        return note + (f", {self._states['failed']} failed" if self._states["failed"] else "")


def _epochs(cell: Cell) -> int:
    regimen = REGIMENS[cell.run.configuration.regimen]
    chosen = options(regimen.options, cell.run.configuration.options)
    return int(chosen.epochs)
