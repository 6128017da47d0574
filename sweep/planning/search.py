"""The next configurations of a sweep, as pure functions of its spec and its store's runs.

No state is kept between calls. A search that was cut off goes on from the configurations in the
store, finished or not.
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
# Configurations that a Bayesian search proposes at once. The number is fixed, since proposals must
# not depend on the machine or on the speed of its workers.
ROUND = 2
# Draws per wanted configuration, after which no further one is expected.
DRAWS = 20


def proposals(
    spec: SweepSpec, known: Sequence[Proposal], traces: Mapping[str, Trace]
) -> list[Proposal]:
    """All configurations that should exist now, including the known ones.

    Args:
        spec: The sweep, with the digest of its dataset.
        known: Configurations in the store, in the order of proposal. Those that the present
            experiment file could not propose are left out.
        traces: What the store knows of each run, by run id.

    Returns:
        Different configurations, regimen by regimen. A grid or random search returns its whole
        list at once; a Bayesian one returns at most one unfinished round per regimen.
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
    """The configurations of arms, numbered; arms with the same samples share one."""
    found: dict[str, Proposal] = {}
    for arm in arms:
        numbered = dataclasses.replace(arm, number=len(found))
        found.setdefault(arm.configuration.configuration_id, numbered)
    return list(found.values())


def _grid(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    """All combinations of values; the last key changes fastest."""
    values = [parameter.values or () for parameter in section.parameters.values()]
    drawn = (
        dict(zip(section.parameters, combination, strict=True))
        for combination in itertools.product(*values)
    )
    return _distinct(spec, regimen, section, drawn, spec.max_configurations)


def _random(spec: SweepSpec, regimen: str, section: RegimenSpec) -> list[Proposal]:
    """Random configurations; a larger ``max_configurations`` only adds to them."""
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
        # Rounding may put the exponential just outside the interval.
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

    A configuration is judged by the mean of its objective over the seeds. It counts as failed if
    one seed failed. A round depends only on the rounds before it. So a second call gives the same
    proposals, even if a driver was lost in the middle of a round.
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
    """Up to ``ROUND`` new configurations."""
    from sweep.planning.bayes import suggested  # noqa: PLC0415 - Optuna, for this search only

    taken = {k.configuration.configuration_id for k in history}
    known = [(k.parameters, outcome) for k, outcome in zip(history, outcomes, strict=True)]
    seed = int(np.random.default_rng([spec.search_seed, len(history)]).integers(2**31))
    asked = itertools.islice(suggested(section, known, seed), DRAWS * ROUND)
    found: list[Proposal] = []
    # Optuna may suggest the same values twice; training them again would teach nothing.
    for values in itertools.chain(asked, _all_values(section)):
        new = _proposal(spec, regimen, section, values, len(history) + len(found))
        if new.configuration.configuration_id not in taken:
            taken.add(new.configuration.configuration_id)
            found.append(new)
        if len(found) == ROUND:
            break
    return found


def _belongs(spec: SweepSpec, regimen: str, section: RegimenSpec, known: Proposal) -> bool:
    """Whether the present experiment file could propose a known configuration."""
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
    """All combinations of values; none if a parameter is continuous."""
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
    """Mean objective of a configuration over its seeds, or ``open``, or ``failed``."""
    found = cells(spec, [proposal.configuration], traces)
    values = [c.trace.objectives.get(metric.name) if c.trace else None for c in found]
    if to_train(found, retry_failed=False):
        return "open"
    if any(c.state == "failed" for c in found):
        return "failed"
    if None in values:
        raise ExperimentError(
            f"regimens.{proposal.configuration.regimen}.metric: expected a summary number that "
            f"every run recorded; got {metric.name!r}, which a finished run lacks"
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
