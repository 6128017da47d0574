"""Looks at a sweep as it stands in MLflow: its configurations, and what became of each cell."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from sweep.execution.adaptive_seeds import Judge
from sweep.experiment.check import check
from sweep.experiment.runs import Cell, Proposal
from sweep.experiment.spec import SweepSpec
from sweep.planning import due_cells, search
from sweep.store import ownership, run_records
from sweep.store.mlflow_store import Store
from sweep.store.run_store import Sweep


def look(
    spec: SweepSpec,
    store: Store | None,
    judge: Judge | None = None,
    again: Collection[str] = (),
) -> Sweep[SweepSpec]:
    """A sweep as it stands in its store, nothing started.

    Args:
        spec: Of the sweep.
        store: None if it has none yet.
        judge: Of adaptive seeds; one that changes nothing, if left out.
        again: Run ids whose failure does not count, since they are to be started again.
    """
    traces = store.traces() if store else {}
    known = _known(store) if store else []
    proposed = search.proposals(spec, known, traces)
    if store:
        judge = judge or Judge(spec, store, keep=False)
    due = {
        p.configuration.configuration_id: due_cells.due(
            spec, p.configuration, traces, judge or _nothing, again
        )
        for p in proposed
    }
    if store and judge and judge.damaged:
        traces = store.traces()
    cells = due_cells.cells(spec, [p.configuration for p in proposed], traces, due)
    return Sweep(spec=spec, proposals=proposed, cells=cells, due=due)


def _nothing(_done: Sequence[Cell], _number: int) -> None:
    """Without a store there is nothing to judge, and no look that does not wait."""


def find(name: str, tracking_uri: str | None) -> tuple[Store, Sweep[SweepSpec]]:
    """A store and the sweep of that name in it, as the sweep's own run describes it.

    Raises:
        NoSuchSweep: If there is none.
        ExperimentError: If its plugins are gone or its file no longer fits.
    """
    store = Store.known_as(tracking_uri, name)
    spec = check(store.read_sweep(), name)
    sweep = look(spec, store)
    if not any(c.state == "running" for c in sweep.cells) or ownership.driver(store):
        return store, sweep
    # Cells run only while a living driver has the sweep, and the last one may just have ended.
    sweep = look(spec, store)
    return store, replace(sweep, cells=[_asleep(c) for c in sweep.cells])


def _asleep(cell: Cell) -> Cell:
    if cell.trace is None or cell.state != "running":
        return cell
    reason = run_records.cut_off(cell.trace.epochs)
    return replace(cell, trace=replace(cell.trace, state="missing", reason=reason))


def _known(store: Store) -> list[Proposal]:
    return [
        Proposal(configuration=k.configuration, parameters=k.parameters, number=k.number)
        for k in store.configurations()
    ]
