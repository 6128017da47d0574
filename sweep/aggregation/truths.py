"""Truths of a sweep's samples: planted ones from its runs, and imported ones from files."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hardness.dynamics.folder import SAMPLES
from hardness.dynamics.importers import read_scores
from hardness.files import UNREADABLE
from hardness.planting.options import PLANTED, TRUTH
from sweep.errors import Mistake
from sweep.experiment.runs import Cell
from sweep.store.run_store import RunStore

# Its labels are drawn independently of the image, so only a score that uses labels can find it.
INDEPENDENT_OF_IMAGES = f"{TRUTH}noise_symmetric"


@dataclass(frozen=True, kw_only=True)
class Truths:
    """Truths in the order of a configuration's samples.

    Args:
        by_name: Truths, name to ``[samples]``; higher is harder, NaN if unknown.
        unplanted: Mask of the samples without planted hardness; None if nothing is planted.
    """

    by_name: Mapping[str, np.ndarray] = field(default_factory=dict)
    unplanted: np.ndarray | None = None


def of_run(store: RunStore, tracking_run: str, sample_ids: np.ndarray, notes: list[str]) -> Truths:
    """The columns ``truth_*`` of a run's table of samples.

    Args:
        store: The store of the run.
        tracking_run: Tracking id of any run; all runs of a sweep have the same truths.
        sample_ids: Sample ids in the wanted order.
        notes: List to which notes about columns without numbers and unreadable files are added.
    """
    try:
        table = _samples(store, tracking_run).set_index("sample_id").reindex(sample_ids)
    except UNREADABLE as error:
        notes.append(f"no truth of {SAMPLES}: {' '.join(str(error).split())[:200]}")
        return Truths()
    values = {}
    for name in (str(c) for c in table if str(c).startswith(TRUTH)):
        if pd.api.types.is_numeric_dtype(table[name]):
            values[name] = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            notes.append(f"{name}: expected a truth in numbers; got {table[name].dtype}")
    if PLANTED not in table:
        return Truths(by_name=values)
    unplanted = (table[PLANTED].fillna("") == "").to_numpy(dtype=np.bool_)
    return Truths(by_name=values, unplanted=None if unplanted.all() else unplanted)


def refuse_others(
    given: Mapping[str, pd.Series], store: RunStore, cells: Sequence[Cell]
) -> list[str]:
    """Refuse imported tables about other samples; returns the names of the runs' own truths.

    Args:
        given: Imported values by ``sample_id``, by name.
        store: The store of the runs.
        cells: Cells of the sweep. All have the same samples, so the first finished one is read.

    Raises:
        Mistake: If a table has none of the runs' samples.
    """
    run = next((c.trace.tracking_run for c in cells if c.trace and c.state == "done"), None)
    if run is None:
        return []
    try:
        table = _samples(store, run)
        ids = table["sample_id"]
    except UNREADABLE:
        return []  # aggregation reports the damaged run
    for name, values in given.items():
        if not values.index.isin(ids).any():
            raise Mistake(
                f"{name}: expected sample ids of these runs, such as {ids.iloc[0]}; got none of "
                f"them, {values.index[0]} first"
            )
    return [name for name in map(str, table) if name.startswith(TRUTH)]


def given_truths(files: Sequence[Path]) -> dict[str, pd.Series]:
    """Imported truths, ``column.file`` to values by ``sample_id``; high is hard.

    Args:
        files: CSV or parquet files with the column ``sample_id`` and one column per truth.

    Raises:
        Mistake: If a file is not such a table, or two truths have the same name; one line.
    """
    found: dict[str, pd.Series] = {}
    for file in files:
        try:
            table = read_scores(file)
        except ValueError as error:
            raise Mistake(f"--truth: {error}") from error
        for column in map(str, table):
            name = f"{column}.{file.stem}"
            if name in found:
                raise Mistake(f"--truth: expected files of different names; got {name} twice")
            found[name] = table[column]
    return found


def _samples(store: RunStore, tracking_run: str) -> pd.DataFrame:
    local = store.local_folder(tracking_run)
    if local is not None:
        return pd.read_parquet(local / SAMPLES)
    with tempfile.TemporaryDirectory(prefix="sweep-truth-") as scratch:
        return pd.read_parquet(store.download(tracking_run, SAMPLES, Path(scratch)))
