"""Which configurations and cells come next: pure functions of a sweep and of what its store knows.

Nothing is carried between calls. A search that was cut off goes on because its configurations,
finished or not, stand in the store.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sweep.experiment.runs import Proposal, Trace
from sweep.experiment.sections import ExperimentError, with_parameters
from sweep.experiment.spec import Objective, Parameter, RegimenSpec, SweepSpec
from sweep.planning.due_cells import cells, to_train

DEFAULT_CONFIGURATIONS = 20
# Configurations that a Bayesian search proposes at once. Part of its definition, not of the
# machine: proposals must not depend on which worker happens to be faster.
ROUND = 2
# Draws for each configuration that is asked for, before a list of values counts as exhausted.
DRAWS = 20


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
    from sweep.planning.bayes import suggested  # noqa: PLC0415 - Optuna, for this search alone

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
