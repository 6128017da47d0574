"""The table of a sweep's cells on a terminal."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sweep.execution.places import spool
from sweep.experiment.runs import Cell, shown_values
from sweep.experiment.spec import SweepSpec
from sweep.report.terminal import console, records
from sweep.store.run_store import Sweep
from sweep.store.uploading import waiting


def status(sweep: Sweep[SweepSpec]) -> pd.DataFrame:
    """The table of cells: configuration, seed, state, epochs, reason and files that wait."""
    parameters = {
        p.configuration.configuration_id: shown_values(p.parameters) for p in sweep.proposals
    }
    rows = [_cell_row(c, parameters) | _waiting(sweep, c) for c in sweep.cells]
    return pd.DataFrame(rows)


def print_status(sweep: Sweep[SweepSpec]) -> None:
    """Print the cells by configuration, then every cell with a reason."""
    table = Table(box=SIMPLE_HEAD, title=f"sweep {sweep.spec.name}", title_justify="left")
    for column in ("configuration", "regimen", "parameters"):
        table.add_column(column)
    for column in ("done", "running", "failed", "missing"):
        table.add_column(column, justify="right")
    cells = status(sweep)
    for keys, group in cells.groupby(["configuration_id", "regimen", "parameters"], sort=False):
        counts = Counter(group["state"])
        states = ("done", "running", "failed", "missing")
        table.add_row(*map(str, keys), *(str(counts[s]) for s in states))
    out = console()
    out.print(table)
    for row in records(cells[cells["reason"] != ""]):
        who = f"{row['regimen']} {row['configuration_id']} seed {row['seed']}"
        out.print(f"{row['state']}: {who}: {row['reason']}", markup=False, soft_wrap=True)
    for line in _waiting_lines(cells):
        out.print(line, markup=False, soft_wrap=True)


def _cell_row(cell: Cell, parameters: dict[str, str]) -> dict[str, Any]:
    configuration, trace = cell.run.configuration, cell.trace
    return {
        "configuration_id": configuration.configuration_id,
        "regimen": configuration.regimen,
        "parameters": parameters[configuration.configuration_id],
        "seed": cell.run.seed,
        "run_id": cell.run.run_id,
        "state": cell.state,
        "epochs": trace.epochs if trace else 0,
        "reason": trace.reason if trace else "",
    }


def _waiting(sweep: Sweep[SweepSpec], cell: Cell) -> dict[str, Any]:
    """Files and MiB of a cell that wait for upload; None if this machine does not see them."""
    if not Path(sweep.spec.storage_path).is_dir():
        return {"waiting_files": None, "waiting_mib": None}
    files, nbytes = waiting(spool(sweep.spec.storage_path, cell.run.run_id))
    return {"waiting_files": files, "waiting_mib": round(nbytes / 2**20, 3)}


def _waiting_lines(cells: pd.DataFrame) -> list[str]:
    """Lines about files that wait for upload: the total, then per cell."""
    rows = records(cells[cells["waiting_files"].fillna(0) > 0]) if len(cells) else []
    if not rows:
        return []
    files, mib = sum(r["waiting_files"] for r in rows), sum(r["waiting_mib"] for r in rows)
    return [
        f"waiting to be uploaded: {files:.0f} files, {mib:.1f} MiB",
        *(
            f"  {r['regimen']} {r['configuration_id']} seed {r['seed']}: "
            f"{r['waiting_files']:.0f} files, {r['waiting_mib']:.1f} MiB"
            for r in rows
        ),
    ]
