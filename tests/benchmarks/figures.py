"""What a benchmark found, as rows of one table, and pairs of timings that share the machine."""

import importlib
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sweep.scoring import memory


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table.

    Args:
        what: Quantity, and of what size of work.
        asked: What it should be.
        found: Its value, a ratio with its range where it is one.
        note: What else a reader needs to judge it.
    """

    what: str
    asked: str
    found: str
    note: str = ""


def measured(name: str, pairs: int, core: bool) -> list[Figure]:
    """Run the benchmark in the module of that name; of aggregation, its core metrics alone."""
    memory.share_one()  # as the command line does
    measure = importlib.import_module(f"tests.benchmarks.{name}").measure
    return measure(pairs, core=True) if core else measure(pairs)


def ratio(
    what: str,
    asked: str,
    numerator: Callable[[int], object],
    denominator: Callable[[int], object],
    pairs: int,
) -> Figure:
    """Time two ways of doing the same, one right after the other, and compare pair by pair.

    A neighbour's load falls on both members of a pair; seconds of different pairs never meet.
    Each goes first in every other pair, for a machine that slows down meanwhile. The first pair,
    which also warms caches and allocators, does not count.

    Args:
        what: As in ``Figure``.
        asked: As in ``Figure``.
        numerator: Given the pair's number.
        denominator: Likewise.
        pairs: How many to count.
    """
    wall, cpu, seconds = [], [], []
    for pair in range(pairs + 1):
        order = (denominator, numerator) if pair % 2 else (numerator, denominator)
        timed = {work: _timed(work, pair) for work in order}
        below, above = timed[denominator], timed[numerator]
        if pair:
            wall.append(above[0] / below[0])
            cpu.append(above[1] / below[1])
            seconds.append(below[0])
    found = f"{statistics.median(wall):.3f} ({min(wall):.3f} to {max(wall):.3f})"
    note = (
        f"{pairs} pairs of about {2 * statistics.median(seconds):.0f} s; "
        f"of CPU seconds {statistics.median(cpu):.3f} ({min(cpu):.3f} to {max(cpu):.3f})"
    )
    return Figure(what=what, asked=asked, found=found, note=note)


def _timed(work: Callable[[int], object], pair: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work(pair)
    return time.perf_counter() - wall, time.process_time() - cpu


def show(figures: list[Figure]) -> None:
    """Print the table and the machine."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "asked", "found", "note"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(figure.what, figure.asked, figure.found, figure.note)
    # Wide enough for a log, where nothing says how wide the reader's window is.
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(width=160, highlight=False)
    console.print(table)
    console.print(machine())


def machine() -> str:
    """CPU model, cores, versions, and how busy the machine is with other work."""
    load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"torch {importlib.metadata.version('torch')}; load over 1, 5 and 15 minutes {load}"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
