"""The cache of scores in a sweep's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from hardness.files import UNREADABLE, atomic_write
from hardness.scoring.runs import scorable
from sweep.experiment.runs import Cell, identity
from sweep.scoring.worker import VERSIONS, version, write_scores
from sweep.store.run_store import RunStore


def file_of(runs: Sequence[str]) -> str:
    """Name of the cache file of a run, or of an ensemble of runs."""
    return f"{runs[0] if len(runs) == 1 else identity(list(runs))}.parquet"


def task(
    cells: Sequence[Cell], keys: Sequence[str], folder: Path, store: RunStore
) -> dict[str, Any] | None:
    """The task for a worker: missing scores of a run or an ensemble; None if none are missing."""
    traces = [cell.trace for cell in cells if cell.trace]
    scope: Literal["run", "seeds"] = "run" if len(cells) == 1 else "seeds"
    wanted = scorable(keys, frozenset.intersection(*(t.signals for t in traces)), scope)
    runs = [cell.run.run_id for cell in cells]
    file = file_of(runs)
    cached = versions(folder / "scores" / file)
    todo = [k for k in wanted if cached.get(k) != version(k)]
    if not todo:
        return None
    return {
        "file": file,
        "run_ids": runs,
        "tracking_runs": [trace.tracking_run for trace in traces],
        "folders": [str(store.local_folder(trace.tracking_run) or "") for trace in traces],
        "keys": todo,
    }


def versions(path: Path) -> dict[str, str]:
    """Versions of the metrics in a score file, by metric key. Reads and checks the whole file."""
    try:
        metadata = pq.read_table(path, page_checksum_verification=True).schema.metadata or {}
        return dict(json.loads(metadata[VERSIONS]))
    except UNREADABLE:
        return {}  # missing or damaged: all scores are computed anew


def merge(path: Path, content: bytes) -> None:
    """Add new score columns to a cache file; other columns stay."""
    cached = versions(path)
    if not cached:
        with atomic_write(path) as partial:
            partial.write_bytes(content)
        return
    new, old = pq.read_table(pa.BufferReader(content)), pq.read_table(path)
    made = json.loads(new.schema.metadata[VERSIONS])
    for column in old.column_names:
        if column not in new.column_names:
            new = new.append_column(column, old[column])
    table = new.replace_schema_metadata({VERSIONS: json.dumps({**cached, **made})})
    with atomic_write(path) as partial:
        write_scores(table, partial)
