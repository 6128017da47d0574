"""Cells of a sweep, the seeds that are due, and the packs to train."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hardness.comparison.enough_seeds import Look
from hardness.training import REGIMENS
from sweep.experiment.runs import Cell, Configuration, Pack, RunSpec, Trace
from sweep.experiment.sections import options
from sweep.experiment.spec import SweepSpec

# Function of finished runs and a look's number; returns the look, None if a run cannot be read.
Judge: TypeAlias = Callable[[Sequence[Cell], int], Look | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Seeds that a configuration should have now.

    Args:
        seeds: The seeds.
        looks: Looks that led to these seeds, in order; empty without adaptive seeds.
    """

    seeds: tuple[int, ...]
    looks: tuple[Look, ...] = ()


def cells(
    spec: SweepSpec,
    configurations: Iterable[Configuration],
    traces: Mapping[str, Trace],
    due: Mapping[str, Due] | None = None,
) -> list[Cell]:
    """Every (configuration, seed), seed by seed within a configuration.

    A finished run counts as missing if it lacks a needed signal, or a scoring pass in an epoch that
    needs one.

    Args:
        spec: The sweep.
        configurations: Configurations of the sweep.
        traces: What the store knows of each run, by run id.
        due: Due seeds by configuration id; all seeds of the sweep, if left out.
    """
    found = []
    for configuration in configurations:
        needed = spec.needs.signals[configuration.regimen]
        passes = needed_passes(spec, configuration)
        mine = (due or {}).get(configuration.configuration_id)
        for seed in mine.seeds if mine else spec.seeds:
            run = RunSpec(configuration=configuration, seed=seed)
            trace = traces.get(run.run_id)
            if trace is not None and trace.state == "done":
                made = {name: {*epochs} for name, epochs in trace.passes.items()}
                lacking = any({*e} - made.get(name, set()) for name, e in passes.items())
                if lacking or not needed <= trace.signals:
                    trace = None
            found.append(Cell(run=run, trace=trace))
    return found


def due(
    spec: SweepSpec,
    configuration: Configuration,
    traces: Mapping[str, Trace],
    judge: Judge,
    again: Collection[str] = (),
) -> Due:
    """The seeds of a configuration that are due now; with adaptive seeds, up to the next look.

    A look waits until each of its seeds is done or has failed for good. Failed seeds do not count
    in the look, nor do further seeds in the store. So every call takes the same looks in the same
    order at the same scores.

    Args:
        spec: The sweep.
        configuration: A configuration of the sweep.
        traces: What the store knows of each run, by run id.
        judge: Function that takes a look; its result depends on the runs' scores alone.
        again: Ids of failed runs that will be started again, so that a look waits for them.
    """
    if spec.adaptive is None or configuration.regimen not in spec.needs.adaptive:
        return Due(seeds=spec.most_seeds(configuration.regimen))
    plan = spec.adaptive.looks
    every = cells(spec, [configuration], traces)
    looks: list[Look] = []
    for number, count in enumerate(plan, start=1):
        seeds, mine = spec.seeds[:count], every[:count]
        repeated = any(c.state == "failed" and c.run.run_id in again for c in mine)
        waiting = repeated or to_train(mine, retry_failed=False)
        look = None if waiting else judge([c for c in mine if c.state == "done"], number)
        if look is not None:
            looks.append(look)
        if look is None or look.last:
            break
    return Due(seeds=seeds, looks=tuple(looks))


def needed_passes(spec: SweepSpec, configuration: Configuration) -> dict[str, tuple[int, ...]]:
    """Scoring passes of a configuration's runs, each with its epochs."""
    kind = REGIMENS[configuration.regimen].options
    epochs = options(kind, configuration.options).epochs
    return spec.needs.passes_of(configuration.regimen, epochs)


def to_train(cells: Iterable[Cell], *, retry_failed: bool) -> list[Cell]:
    """The cells that a driver must train: neither done nor failed for good."""
    return [
        cell
        for cell in cells
        if cell.state in ("missing", "running")
        or (cell.trace and cell.state == "failed" and (retry_failed or not cell.trace.final))
    ]


def packs(cells: Sequence[Cell], seeds_per_pack: int, parents: Mapping[str, str]) -> list[Pack]:
    """Group cells of one configuration into packs, in the order of the cells.

    Args:
        cells: Cells to train, sorted by configuration.
        seeds_per_pack: Maximal number of seeds in a pack.
        parents: Tracking runs of the configurations, by configuration id.
    """
    found = []
    groups = itertools.groupby(cells, key=lambda c: c.run.configuration.configuration_id)
    for configuration_id, group in groups:
        members = list(group)
        found += [
            Pack(
                configuration=members[0].run.configuration,
                seeds=tuple(c.run.seed for c in members[start : start + seeds_per_pack]),
                parent_run=parents[configuration_id],
            )
            for start in range(0, len(members), seeds_per_pack)
        ]
    return found
