"""The status of a sweep in its store: its configurations, and the state of each cell."""

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
    """The current status of a sweep. Nothing is started.

    Args:
        spec: The sweep's spec.
        store: The sweep's store; None if it has none yet.
        judge: Takes the looks of adaptive seeds; if left out, one that changes nothing.
        again: Ids of failed runs that are started again, so that their failure does not count.
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
    """The judge of a sweep without a store: every look waits for its runs."""


def find(name: str, tracking_uri: str | None) -> tuple[Store, Sweep[SweepSpec]]:
    """The store that has a sweep of this name, and the sweep.

    Raises:
        NoSuchSweep: If no store has it.
        ExperimentError: If a plugin file is missing or the stored experiment is no longer valid.
    """
    store = Store.known_as(tracking_uri, name)
    spec = check(store.read_sweep(), name)
    sweep = look(spec, store)
    if not any(c.state == "running" for c in sweep.cells) or ownership.driver(store):
        return store, sweep
    # Without a living driver no cell is running. Look again: the driver may have ended meanwhile.
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
