"""What the tracking store knows of a configuration and of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.experiment.runs import Configuration, canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownConfiguration:
    """A configuration's run in the store.

    Args:
        configuration: Read back from its tag.
        parameters: The searched values that led to it.
        number: In the order of proposal, from 0.
        tracking_run: Its id in the store.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int
    tracking_run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Everything of a run but its files, as one store has it.

    Args:
        name: That people see.
        started_ms: When it was created.
        ended_ms: When it ended; None if it did not.
        params: Its parameters.
        tags: Those that are ours.
        points: Of its metrics: key, value, timestamp, step.
    """

    name: str
    started_ms: int
    ended_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: Sequence[tuple[str, float, int, int]]


def cut_off(epochs: int) -> str:
    """What is said of a run that nobody works on and that is not done."""
    after = f"after {epochs} epoch{'s' * (epochs != 1)}" if epochs else "in its first epoch"
    return f"cut off {after}; sweep run goes on"


def identity_tags(configuration: Configuration) -> dict[str, str]:
    return {
        "configuration_id": configuration.configuration_id,
        "regimen": configuration.regimen,
        "dataset": str(configuration.dataset["name"]),
        "data_seed": str(configuration.dataset.get("data_seed", 0)),
        "plant": canonical_json(configuration.plant) if configuration.plant else "none",
    }


def flat(configuration: Configuration) -> dict[str, Any]:
    """Hyperparameters as dotted keys."""
    nested = {
        **configuration.options,
        "model": configuration.model,
        "dataset": configuration.dataset,
        "vary": list(configuration.vary),
    }
    return dict(_dotted(nested, ()))


def _dotted(value: Mapping[str, Any], path: Sequence[str]) -> Iterable[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _dotted(inner, (*path, key))
        else:
            yield ".".join((*path, key)), inner


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
