"""Which configurations and cells come next: pure functions of a sweep and of what its store knows.

Nothing is carried between calls. A search that was cut off goes on because its configurations,
finished or not, stand in the store.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hardness.options import ModelOptions
from hardness.sequential import ERROR, Look
from hardness.training import REGIMENS
from sweep.experiment_file import ExperimentError, options, with_parameters
from sweep.spec import (
    Cell,
    Configuration,
    Objective,
    Pack,
    Parameter,
    Proposal,
    RegimenSpec,
    RunSpec,
    RunsSpec,
    SweepSpec,
    Trace,
)

DEFAULT_CONFIGURATIONS = 20
# Configurations that a Bayesian search proposes at once. Part of its definition, not of the
# machine: proposals must not depend on which worker happens to be faster.
ROUND = 2
# Draws for each configuration that is asked for, before a list of values counts as exhausted.
DRAWS = 20

# What a look, by its number, says of these finished runs; None if one of them cannot be read.
Judge: TypeAlias = Callable[[Sequence[Cell], int], Look | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The seeds that a configuration should have now.

    Args:
        seeds: Which.
        looks: That led to them, in order; none where seeds are not adaptive.
    """

    seeds: tuple[int, ...]
    looks: tuple[Look, ...] = ()


def proposals(
    spec: SweepSpec, known: Sequence[Proposal], traces: Mapping[str, Trace]
) -> list[Proposal]:
    """All configurations that should exist now, those known already included.

    Args:
        spec: The sweep; its dataset's digest is filled in.
        known: Configurations in the store, in the order of proposal. Those that the sweep as it
            is now would not propose, such as an edited file's former ones, are left out.
        traces: What the store knows of each run, by run id.

    Returns:
        One entry a configuration, without repetition, regimen by regimen. For a grid or random
        search the whole list at once; for a Bayesian one at most one unfinished round a regimen.
    """
    if spec.arms:
        return _of_arms(spec.arms)
    found: list[Proposal] = []
    for regimen, section in spec.regimens.items():
        if spec.method == "bayes" and section.parameters:
            mine = [k for k in known if _belongs(spec, regimen, section, k)]
            found += _bayes(spec, regimen, section, mine, traces)
        elif spec.method == "random" and section.parameters:
            found += _random(spec, regimen, section)
        else:
            found += _grid(spec, regimen, section)
    return found


def cells(
    spec: SweepSpec,
    configurations: Iterable[Configuration],
    traces: Mapping[str, Trace],
    due: Mapping[str, Due] | None = None,
) -> list[Cell]:
    """Every (configuration, seed), seed by seed within a configuration.

    A finished run that lacks a signal that the asked metrics need, or a scoring pass in an epoch
    that is asked for, counts as missing.

    Args:
        spec: The sweep.
        configurations: Which.
        traces: What the store knows of each run, by run id.
        due: Seeds by configuration id; all of the sweep's, if left out.
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
    """The seeds of a configuration that are due now: adaptive ones as far as looks have come.

    A look waits until each seed that is due at it is done or has failed for good; the failed ones
    do not count in it. It sees the seeds due at it and no others, whatever else the store has.
    So whoever asks, and whenever, takes the same looks in the same order at the same scores.

    Args:
        spec: The sweep.
        configuration: One of its.
        traces: What the store knows of each run, by run id.
        judge: A function of the runs' scores alone.
        again: Run ids whose failure does not count, since they are to be started again.
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
    """The scoring passes of a configuration's runs, and the epochs in which each is made."""
    kind = REGIMENS[configuration.regimen].options
    epochs = options(kind, configuration.options).epochs
    return spec.needs.passes_of(configuration.regimen, epochs)


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


def pretrained(proposals: Iterable[Proposal]) -> list[ModelOptions]:
    """The models among these that start from pretrained weights, each once."""
    # A recorded run does not tell its model.
    told = (p.configuration.model for p in proposals if p.configuration.model)
    models = (options(ModelOptions, model) for model in told)
    return [*dict.fromkeys(model for model in models if model.pretrained)]


def statements(spec: RunsSpec, proposals: Iterable[Proposal]) -> list[str]:
    """What a reader of the sweep's numbers has to know before the first of them is there."""
    starts = [
        f"pretrained: {model.name} starts from torchvision's {model.pretrained}, which learned "
        "from ImageNet's labels; scores under labels: none have seen those"
        for model in pretrained(proposals)
    ]
    return [*map(str, spec.needs.shortfalls), *starts, *_plan(spec)]


def _plan(spec: RunsSpec) -> list[str]:
    """What adaptive seeds mean for this sweep, in a line, and for whom they do not hold."""
    if spec.adaptive is None:
        return []
    until, plan = spec.adaptive.until, spec.adaptive.looks
    without = [regimen for regimen in spec.regimens if regimen not in spec.needs.adaptive]
    shown = ", ".join(map(str, plan))
    whole = (
        f"adaptive seeds: looks at {shown}, until the reliability of {until.metric} is surely "
        f"{until.reliability:g} or more: low end of an interval at {1 - ERROR / len(plan):.2%}, "
        f"95 % over all looks"
    )
    some = f"no {until.metric}, so {plan[0]} seeds each: {', '.join(without)}"
    return [whole, *([f"adaptive seeds: {some}"] if without else [])]


def _of_arms(arms: Iterable[Proposal]) -> list[Proposal]:
    """The arms' configurations, numbered; two arms of the same samples share theirs."""
    found: dict[str, Proposal] = {}
    for arm in arms:
        numbered = dataclasses.replace(arm, number=len(found))
        found.setdefault(arm.configuration.configuration_id, numbered)
    return list(found.values())


def _grid(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    """The product of all values, the last key's fastest."""
    values = [parameter.values or () for parameter in section.parameters.values()]
    drawn = (
        dict(zip(section.parameters, combination, strict=True))
        for combination in itertools.product(*values)
    )
    return _distinct(spec, regimen, section, drawn, spec.max_configurations)


def _random(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    """Different configurations; a greater ``max_configurations`` keeps them and adds more."""
    rng = np.random.default_rng([spec.search_seed, *regimen.encode()])
    limit = spec.max_configurations or DEFAULT_CONFIGURATIONS
    drawn = (
        {k: _draw(p, rng) for k, p in section.parameters.items()} for _ in range(DRAWS * limit)
    )
    return _distinct(spec, regimen, section, drawn, limit)


def _distinct(
    spec: SweepSpec,
    regimen: str,
    section: RegimenSpec,
    drawn: Iterable[Mapping[str, Any]],
    limit: int | None,
) -> list[Proposal]:
    """The first ``limit`` different configurations, numbered."""
    found: dict[str, Proposal] = {}
    for values in drawn:
        new = _proposal(spec, regimen, section, values, len(found))
        found.setdefault(new.configuration.configuration_id, new)
        if len(found) == limit:
            break
    return list(found.values())


def _draw(parameter: Parameter, rng: np.random.Generator) -> Any:
    if parameter.values is not None:
        return parameter.values[int(rng.integers(len(parameter.values)))]
    low, high = parameter.extremes
    if parameter.distribution == "int_uniform":
        return int(rng.integers(low, high, endpoint=True))
    if parameter.distribution == "log_uniform":
        # The exponential may round to just outside.
        return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
    return float(rng.uniform(low, high))


def _bayes(
    spec: SweepSpec,
    regimen: str,
    section: RegimenSpec,
    known: Sequence[Proposal],
    traces: Mapping[str, Trace],
) -> list[Proposal]:
    """The known configurations and, once all of them are finished, the next round.

    Each is judged by the mean of its objective over the sweep's seeds; one with a failed seed
    counts as failed. A round is drawn from the rounds before it alone, so that asking again gives
    the same proposals, also where a driver was lost between the first and the last of a round.
    """
    limit = spec.max_configurations or DEFAULT_CONFIGURATIONS
    outcomes = [_outcome(spec, section.metric, k, traces) for k in known]
    if len(known) >= limit or "open" in outcomes:
        return list(known)
    before = len(known) - len(known) % ROUND
    new = _round(spec, regimen, section, known[:before], outcomes[:before])
    taken = {k.configuration.configuration_id for k in known}
    added = [p for p in new if p.configuration.configuration_id not in taken]
    return [*known, *added][: min(limit, before + ROUND)]


def _round(
    spec: SweepSpec,
    regimen: str,
    section: RegimenSpec,
    history: Sequence[Proposal],
    outcomes: Sequence[float | str],
) -> list[Proposal]:
    """Up to ``ROUND`` configurations that are not in the history."""
    from sweep.bayes import suggested  # noqa: PLC0415 - Optuna, for this search alone

    taken = {k.configuration.configuration_id for k in history}
    known = [(k.parameters, outcome) for k, outcome in zip(history, outcomes, strict=True)]
    seed = int(np.random.default_rng([spec.search_seed, len(history)]).integers(2**31))
    asked = itertools.islice(suggested(section, known, seed), DRAWS * ROUND)
    found: list[Proposal] = []
    # A list of values may be proposed twice; training it again would teach nothing.
    for values in itertools.chain(asked, _all_values(section)):
        new = _proposal(spec, regimen, section, values, len(history) + len(found))
        if new.configuration.configuration_id not in taken:
            taken.add(new.configuration.configuration_id)
            found.append(new)
        if len(found) == ROUND:
            break
    return found


def _belongs(spec: SweepSpec, regimen: str, section: RegimenSpec, known: Proposal) -> bool:
    """Whether the sweep, as its file is now, could have proposed a configuration."""
    if known.configuration.regimen != regimen or {*known.parameters} != {*section.parameters}:
        return False
    try:
        again = _proposal(spec, regimen, section, known.parameters, known.number)
    except ExperimentError:
        return False
    inside = all(_contains(p, known.parameters[k]) for k, p in section.parameters.items())
    return inside and again.configuration.configuration_id == known.configuration.configuration_id


def _contains(parameter: Parameter, value: Any) -> bool:
    if parameter.values is not None:
        return value in parameter.values
    low, high = parameter.extremes
    whole = parameter.distribution == "int_uniform"
    return isinstance(value, int if whole else int | float) and low <= value <= high


def _all_values(section: RegimenSpec) -> Iterator[dict[str, Any]]:
    """Every combination if there are finitely many, else none."""
    lists: list[Sequence[Any]] = []
    for parameter in section.parameters.values():
        if parameter.values is not None:
            lists.append(parameter.values)
        elif parameter.distribution == "int_uniform":
            low, high = parameter.extremes
            lists.append(range(low, high + 1))
        else:
            return
    for combination in itertools.product(*lists):
        yield dict(zip(section.parameters, combination, strict=True))


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
        raise ExperimentError(
            f"regimens.{proposal.configuration.regimen}.metric: a finished run has no "
            f"{metric.name!r}; expected a summary number that it recorded"
        )
    mean = float(np.mean([v for v in values if v is not None]))
    return mean if math.isfinite(mean) else "failed"


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
