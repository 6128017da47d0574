"""Adaptive seeds: looks at the scores of finished runs, and the texts about them.

``planning.due_cells`` decides which seeds are due, from the looks that this module takes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from hardness.comparison.enough_seeds import Look, look_at
from hardness.files import atomic_write
from hardness.metrics.registry import METRICS
from hardness.scoring.runs import FOLD, rank_within_folds
from sweep.experiment.runs import Cell, Proposal, shown_values
from sweep.experiment.spec import SweepSpec
from sweep.planning.due_cells import Due
from sweep.scoring import cache
from sweep.scoring.worker import reduce_runs
from sweep.store.mlflow_store import Store

FILE = "seeds.csv"
COLUMNS = (
    "configuration_id", "regimen", "parameters", "metric", "target", "look", "looks", "due",
    "seeds", "reliability", "low", "high", "forecast", "forecast_low", "forecast_high",
    "reached", "reason",
)  # fmt: skip


class Judge:
    """Takes looks at the runs of a configuration. The same look is never computed twice.

    Scores come from the same cache that aggregation uses. Missing scores are computed in this
    process and not by Ray, because waiting runs may hold all of Ray's slots.

    Args:
        spec: A sweep with adaptive seeds.
        store: The sweep's store.
        keep: Whether new scores are written into the cache and damaged runs are marked in the
            store. If false, nothing is changed.
    """

    def __init__(self, spec: SweepSpec, store: Store, *, keep: bool) -> None:
        self.spec, self.store, self.keep = spec, store, keep
        self.damaged: set[str] = set()
        self._folder = Path(spec.storage_path) / spec.name
        self._looks: dict[tuple[int, tuple[str, ...]], Look] = {}

    def __call__(self, done: Sequence[Cell], number: int) -> Look | None:
        """One look at these finished runs, by its number; None if a run is damaged."""
        assert self.spec.adaptive is not None
        place = number, tuple(cell.run.run_id for cell in done)
        if place not in self._looks:
            rows = [self._hardness(cell) for cell in done]
            whole = [row for row in rows if row is not None]
            if len(whole) < len(rows):
                return None
            scores = np.stack(whole) if whole else np.empty((0, 0))
            until = self.spec.adaptive.until
            found = look_at(scores, number, self.spec.adaptive.looks, until.reliability)
            self._looks[place] = found
        return self._looks[place]

    def _hardness(self, cell: Cell) -> np.ndarray | None:
        """Hardness of one run's samples, ranked within folds if the run has folds."""
        assert self.spec.adaptive is not None
        key = self.spec.adaptive.until.metric
        table = self._scores(cell, key)
        if table is None:
            return None
        hardness = METRICS[key].sign * table[key].to_numpy()
        if FOLD not in table.column_names:
            return hardness
        return rank_within_folds(hardness, table[FOLD].to_numpy())

    def _scores(self, cell: Cell, key: str) -> pa.Table | None:
        assert cell.trace is not None
        path = self._folder / "scores" / cache.file_of([cell.run.run_id])
        task = cache.task([cell], [key], self._folder, self.store)
        if task is None:
            names = pq.read_schema(path).names
            return pq.read_table(path, columns=[n for n in (key, FOLD) if n in names])
        # One thread, as in a worker: the last bits of the scores must be the same.
        with threadpool_limits(limits=1):
            result = reduce_runs(task, address=self.store.address, plugins=self.spec.plugins)
        if result["error"]:
            if self.keep:
                self.damaged.add(cell.run.run_id)
                self.store.fail(cell.trace.tracking_run, result["error"], final=False)
            return None
        if self.keep:
            path.parent.mkdir(parents=True, exist_ok=True)
            cache.merge(path, result["scores"])
        return pq.read_table(pa.BufferReader(result["scores"]))


def table(spec: SweepSpec, proposals: Sequence[Proposal], due: Mapping[str, Due]) -> pd.DataFrame:
    """One row per look of each configuration with adaptive seeds."""
    return pd.DataFrame(
        [
            _row(spec, proposal, look)
            for proposal in proposals
            for look in due[proposal.configuration.configuration_id].looks
        ],
        columns=COLUMNS,
    )


def write(table: pd.DataFrame, folder: Path) -> None:
    """Write ``seeds.csv`` completely or not at all. Without looks, an older file is removed."""
    if table.empty:
        (folder / FILE).unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / FILE) as path:
        table.to_csv(path, index=False)


def lines(spec: SweepSpec, proposals: Sequence[Proposal], due: Mapping[str, Due]) -> list[str]:
    """One line per configuration about its seeds; empty if seeds are not adaptive."""
    if spec.adaptive is None:
        return []
    found = []
    for proposal in proposals:
        mine = due[proposal.configuration.configuration_id]
        found.append(f"{_name(proposal)}: {_verdict(spec, proposal, mine)}")
    return found


def told(spec: SweepSpec, proposal: Proposal, look: Look) -> str:
    """One line about a look while the sweep runs: its result, and what happens next."""
    assert spec.adaptive is not None
    follows = "that is enough" if look.reached else "that was the last"
    if look.undefined:
        follows = "undefined, so no seeds are added"
    elif not look.last:
        follows = f"on to {spec.adaptive.looks[look.number]}"
    return (
        f"look {look.number} of {look.of}: {_name(proposal)}: {look.runs} seeds, reliability of "
        f"{spec.adaptive.until.metric} {_interval(look)}: {follows}"
    )


def _verdict(spec: SweepSpec, proposal: Proposal, due: Due) -> str:
    assert spec.adaptive is not None
    until = spec.adaptive.until
    if proposal.configuration.regimen not in spec.needs.adaptive:
        return f"{len(due.seeds)} seeds, not adaptive: it does not record {until.metric}"
    if not due.looks or not due.looks[-1].last:
        return f"{len(due.seeds)} seeds are due for look {len(due.looks) + 1}; not all are done"
    look, first = due.looks[-1], due.looks[0]
    if look.undefined:
        return (
            f"ended at {_seeds(look)}: {until.metric} has no reliability "
            f"({look.reliability.reason}), which further seeds do not change"
        )
    found = f"reliability {_interval(look)} of {until.metric}"
    if look.reached:
        said = f"{_seeds(look)} are enough, {found} at least {until.reliability:g}"
    elif look.reliability.value < until.reliability:
        said = f"reached {_seeds(look)}, {found} below {until.reliability:g}"
    else:
        said = f"reached {_seeds(look)}, {found} not surely {until.reliability:g}"
    return f"{said}; forecast at {first.runs}: {_forecast(first)}"


def _seeds(look: Look) -> str:
    failed = look.due - look.runs
    return f"{look.runs} seeds" + (f" ({failed} more failed)" if failed else "")


def _interval(look: Look) -> str:
    found = look.reliability
    if math.isnan(found.low):
        return f"{found.value:.3f}"
    # A wide interval may end outside the range of a correlation.
    return f"{found.value:.3f} [{max(found.low, -1):.3f}, {min(found.high, 1):.3f}]"


def _forecast(look: Look) -> str:
    found = look.forecast
    if math.isnan(found.value):
        return "none"
    ends = "" if math.isnan(found.low) else f" [{_count(found.low)}, {_count(found.high)}]"
    return f"{_count(found.value)}{ends}"


def _count(seeds: float) -> str:
    return "∞" if math.isinf(seeds) else f"{max(seeds, 1):.0f}"


def _name(proposal: Proposal) -> str:
    shown = shown_values(proposal.parameters)
    return f"{proposal.configuration.regimen} {shown}".rstrip()


def _row(spec: SweepSpec, proposal: Proposal, look: Look) -> dict[str, Any]:
    assert spec.adaptive is not None
    until, found, forecast = spec.adaptive.until, look.reliability, look.forecast
    return {
        "configuration_id": proposal.configuration.configuration_id,
        "regimen": proposal.configuration.regimen,
        "parameters": shown_values(proposal.parameters),
        "metric": until.metric,
        "target": until.reliability,
        "look": look.number,
        "looks": look.of,
        "due": look.due,
        "seeds": look.runs,
        "reliability": found.value,
        "low": found.low,
        "high": found.high,
        "forecast": forecast.value,
        "forecast_low": forecast.low,
        "forecast_high": forecast.high,
        "reached": look.reached,
        "reason": found.reason,
    }
