"""Next values of a Bayesian search, from the results of its configurations so far."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from sweep.experiment.spec import Parameter, RegimenSpec

# Configurations drawn at random before the search learns from results.
STARTUP = 4


def suggested(
    section: RegimenSpec, known: Sequence[tuple[Mapping[str, Any], float | str]], seed: int
) -> Iterator[dict[str, Any]]:
    """An endless series of suggested values; the same for the same arguments.

    Args:
        section: Regimen with its parameters and its objective.
        known: Values of earlier configurations, each with its objective or ``failed``.
        seed: Seed of the search.
    """
    study = optuna.create_study(
        direction=section.metric.goal,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True),
    )
    space = {k: _distribution(p) for k, p in section.parameters.items()}
    for values, outcome in known:
        failed = outcome == "failed"
        study.add_trial(
            optuna.trial.create_trial(
                params=_encoded(section, values),
                distributions=space,
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                value=None if failed else float(outcome),
            )
        )
    while True:
        yield _decoded(section, study.ask(space).params)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.values is not None:
        # Positions stand for the values, which may be lists.
        return CategoricalDistribution(range(len(parameter.values)))
    low, high = parameter.extremes
    if parameter.distribution == "int_uniform":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=parameter.distribution == "log_uniform")


def _encoded(section: RegimenSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: values[k] if p.values is None else p.values.index(values[k])
        for k, p in section.parameters.items()
    }


def _decoded(section: RegimenSpec, chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: chosen[k] if p.values is None else p.values[chosen[k]]
        for k, p in section.parameters.items()
    }


optuna.logging.set_verbosity(optuna.logging.WARNING)
