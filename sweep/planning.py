"""Which configurations and cells come next: pure functions of a sweep and of what its store knows.

Nothing is carried between calls. A search that was cut off goes on because its configurations,
finished or not, stand in the store.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from hardness.metrics import METRICS
from hardness.training import REGIMENS
from sweep.experiment_file import with_parameters
from sweep.spec import (
    Cell,
    Configuration,
    Objective,
    Pack,
    Parameter,
    RegimenSpec,
    RunSpec,
    SweepSpec,
    Trace,
)

DEFAULT_CONFIGURATIONS = 20
# Configurations that a Bayesian search proposes at once. Part of its definition, not of the
# machine: proposals must not depend on which worker happens to be faster.
ROUND = 2
STARTUP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration and the searched values that led to it."""

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int


def proposals(
    spec: SweepSpec, known: Sequence[Proposal], traces: Mapping[str, Trace]
) -> list[Proposal]:
    """All configurations that should exist now, those known already included.

    Args:
        spec: The sweep; its dataset's digest is filled in.
        known: Configurations in the store, in the order of proposal.
        traces: What the store knows of each run, by run id.

    Returns:
        One entry a configuration, without repetition, regimen by regimen. For a grid or random
        search the whole list at once; for a Bayesian one at most one unfinished round a regimen.
    """
    found: list[Proposal] = []
    for regimen, section in spec.regimens.items():
        if spec.method == "bayes" and section.parameters:
            mine = [k for k in known if k.configuration.regimen == regimen]
            new = _bayes(spec, regimen, section, mine, traces)
        elif spec.method == "random" and section.parameters:
            new = _random(spec, regimen, section)
        else:
            new = _grid(spec, regimen, section)
        found += new
    unique = {p.configuration.configuration_id: p for p in reversed(found)}
    return [p for p in found if unique[p.configuration.configuration_id] is p]


def cells(
    spec: SweepSpec, configurations: Iterable[Configuration], traces: Mapping[str, Trace]
) -> list[Cell]:
    """Every (configuration, seed), seed by seed within a configuration.

    A finished run that lacks a signal that the asked metrics need counts as missing.
    """
    found = []
    for configuration in configurations:
        needed = needed_signals(spec, configuration.regimen)
        for seed in spec.seeds:
            run = RunSpec(configuration=configuration, seed=seed)
            trace = traces.get(run.run_id)
            if trace is not None and trace.state == "done" and not needed <= trace.signals:
                trace = None
            found.append(Cell(run=run, trace=trace))
    return found


def to_train(cells: Iterable[Cell], *, retry_failed: bool) -> list[Cell]:
    """The cells that a driver has to train: neither done nor failed for good."""
    return [
        cell
        for cell in cells
        if cell.state in ("missing", "running")
        or (cell.trace and cell.state == "failed" and (retry_failed or not cell.trace.final))
    ]


def packs(cells: Sequence[Cell], seeds_per_pack: int, parents: Mapping[str, str]) -> list[Pack]:
    """Group cells of one configuration into packs, in the order of the cells.

    Args:
        cells: Consecutive cells of one configuration stay together.
        seeds_per_pack: At most so many.
        parents: Tracking run of each configuration id.
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


def asked_metrics(spec: SweepSpec) -> list[str]:
    """Keys of the metrics that the sweep asks for."""
    return list(METRICS) if spec.metrics == ("all",) else list(spec.metrics)


def needed_signals(spec: SweepSpec, regimen: str) -> frozenset[str]:
    """Signals that the asked metrics need and that the regimen can record.

    With ``metrics: all`` a snapshot that ``keep`` rules out is not needed.
    """
    offered = {*REGIMENS[regimen].signals, *REGIMENS[regimen].snapshots}
    kept = offered - ruled_out(spec) if spec.metrics == ("all",) else offered
    needed: set[str] = set()
    for key in asked_metrics(spec):
        inputs = {*METRICS[key].inputs.values()}
        if inputs <= kept | GIVEN:
            needed |= inputs - GIVEN
    return frozenset(needed)


GIVEN = frozenset({"labels", "n_classes", "images"})


def ruled_out(spec: SweepSpec) -> set[str]:
    """Snapshots that the experiment file does not want kept."""
    names = {"emb": spec.keep.embedding, "logits": spec.keep.logits}
    return {name for name, when in names.items() if when == "none"}


def _grid(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    keys = list(section.parameters)
    values = [section.parameters[key].values or () for key in keys]
    found = [
        _proposal(spec, regimen, section, dict(zip(keys, combination, strict=True)), number)
        for number, combination in enumerate(itertools.product(*values))
    ]
    return found[: spec.max_configurations]


def _random(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    rng = np.random.default_rng([spec.search_seed, *regimen.encode()])
    return [
        _proposal(
            spec,
            regimen,
            section,
            {k: _draw(p, rng) for k, p in section.parameters.items()},
            number,
        )
        for number in range(spec.max_configurations or DEFAULT_CONFIGURATIONS)
    ]


def _draw(parameter: Parameter, rng: np.random.Generator) -> Any:
    if parameter.values is not None:
        return parameter.values[int(rng.integers(len(parameter.values)))]
    assert parameter.min is not None
    assert parameter.max is not None
    if parameter.distribution == "int_uniform":
        return int(rng.integers(int(parameter.min), int(parameter.max), endpoint=True))
    if parameter.distribution == "log_uniform":
        return math.exp(rng.uniform(math.log(parameter.min), math.log(parameter.max)))
    return float(rng.uniform(parameter.min, parameter.max))


def _bayes(
    spec: SweepSpec,
    regimen: str,
    section: RegimenSpec,
    known: Sequence[Proposal],
    traces: Mapping[str, Trace],
) -> list[Proposal]:
    """The known configurations and, once all of them are finished, the next round.

    Each is judged by the mean of its objective over the sweep's seeds; one with a failed seed
    counts as failed. The sampler is made anew from the finished configurations, so that asking
    again, after a restart or not, gives the same proposals.
    """
    known = list(known)
    limit = spec.max_configurations or DEFAULT_CONFIGURATIONS
    outcomes = [_outcome(spec, section.metric, k, traces) for k in known]
    if len(known) >= limit or "open" in outcomes:
        return known
    study = optuna.create_study(
        direction=section.metric.goal,
        sampler=optuna.samplers.TPESampler(
            seed=int(np.random.default_rng([spec.search_seed, len(known)]).integers(2**31)),
            n_startup_trials=STARTUP,
            constant_liar=True,
        ),
    )
    space = {k: _distribution(p) for k, p in section.parameters.items()}
    for proposal, outcome in zip(known, outcomes, strict=True):
        failed = outcome == "failed"
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(proposal.parameters),
                distributions=space,
                state=optuna.trial.TrialState.FAIL if failed else None,
                value=None if failed else float(outcome),
            )
        )
    taken = {k.configuration.configuration_id for k in known}
    for _ in range(10 * ROUND):
        if len(known) == min(limit, len(outcomes) + ROUND):
            break
        chosen = study.ask(space).params
        new = _proposal(spec, regimen, section, chosen, len(known))
        # A list of values may be proposed twice; training it again would teach nothing.
        if new.configuration.configuration_id not in taken:
            taken.add(new.configuration.configuration_id)
            known.append(new)
    return known


def _outcome(
    spec: SweepSpec, metric: Objective, proposal: Proposal, traces: Mapping[str, Trace]
) -> float | str:
    """Mean over seeds of a configuration's objective, ``open`` or ``failed``."""
    found = cells(spec, [proposal.configuration], traces)
    values = [c.trace.objectives.get(metric.name) if c.trace else None for c in found]
    if to_train(found, retry_failed=False):
        return "open"
    if any(c.state == "failed" for c in found):
        return "failed"
    if None in values:
        raise ValueError(
            f"metric {metric.name!r} is not recorded by {proposal.configuration.regimen}"
        )
    return float(np.mean([v for v in values if v is not None]))


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.values is not None:
        return CategoricalDistribution(parameter.values)
    assert parameter.min is not None
    assert parameter.max is not None
    if parameter.distribution == "int_uniform":
        return IntDistribution(int(parameter.min), int(parameter.max))
    return FloatDistribution(
        parameter.min, parameter.max, log=parameter.distribution == "log_uniform"
    )


def _proposal(
    spec: SweepSpec,
    regimen: str,
    section: RegimenSpec,
    values: Mapping[str, Any],
    number: int,
) -> Proposal:
    options, model = with_parameters(regimen, section.options, spec.model, values)
    return Proposal(
        configuration=spec.configuration(regimen, options, model),
        parameters=dict(values),
        number=number,
    )


optuna.logging.set_verbosity(optuna.logging.WARNING)
