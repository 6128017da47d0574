"""What the tracking store knows of a configuration and of a run."""

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hardness.files import UNREADABLE, Damaged
from sweep.errors import Mistake
from sweep.experiment.runs import Configuration, RunSpec, State, Trace, canonical_json, shown_values
from sweep.store.run_store import RunStore, manifest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownConfiguration:
    """A configuration's run in the store.

    Args:
        configuration: The configuration, read from a tag of the run.
        parameters: Searched values, by dotted key.
        number: Place in the order of proposal, from 0.
        tracking_run: Id of the run in the store.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int
    tracking_run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A run as one store has it, without its files.

    Args:
        name: Name shown to people.
        started_ms: Time of creation, in milliseconds since 1970.
        ended_ms: Time of the end; None if the run has not ended.
        params: Parameters, by key.
        tags: Tags, without MLflow's own.
        points: Points of all metrics: key, value, timestamp, step.
    """

    name: str
    started_ms: int
    ended_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: Sequence[tuple[str, float, int, int]]


def configuration_name(configuration: Configuration, parameters: Mapping[str, Any]) -> str:
    """The name that people see of a configuration's run."""
    shown = shown_values({k: _short(v) for k, v in parameters.items()})
    return f"{configuration.regimen} {shown}".strip()


def configuration_tags(
    configuration: Configuration, parameters: Mapping[str, Any], number: int
) -> dict[str, str]:
    """Tags of a configuration's run, which ``known_configuration`` reads."""
    return {
        "role": "configuration",
        "configuration": canonical_json(configuration),
        "parameters": json.dumps(dict(parameters), sort_keys=True),
        "number": str(number),
        **_identity_tags(configuration),
    }


def known_configuration(
    tags: Mapping[str, str], tracking_run: str, sweep: str
) -> KnownConfiguration:
    """Read a configuration from the tags of its run.

    Raises:
        Mistake: If the tags are not as ``sweep`` wrote them.
    """
    with as_sweep_wrote("a configuration in its tags", tracking_run, sweep):
        configuration = Configuration.from_json(tags["configuration"])
        if configuration.configuration_id != tags["configuration_id"]:
            raise ValueError(f"one whose identity is {configuration.configuration_id}")
        return KnownConfiguration(
            configuration=configuration,
            parameters={**json.loads(tags["parameters"])},
            number=int(tags["number"]),
            tracking_run=tracking_run,
        )


@contextlib.contextmanager
def as_sweep_wrote(what: str, tracking_run: str, sweep: str) -> Iterator[None]:
    """Report content of a tracker that cannot be read as written by somebody else.

    Raises:
        Mistake: If the content cannot be read.
    """
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, Mistake | OSError):
            raise
        raise Mistake(
            f"sweep {sweep}: expected {what} of MLflow run {tracking_run}, as sweep wrote "
            f"it; got {type(error).__name__}: {error}; mend or delete that run"
        ) from error


def trace_of(
    store: RunStore,
    tracking_run: str,
    state: State,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Trace:
    """What a store knows of a run; a run in state ``done`` counts only with all of its files."""
    last = metrics.get("epoch", -1)
    epochs = int(last) + 1 if math.isfinite(last) else 0
    found = Trace(tracking_run=tracking_run, state=state, epochs=epochs)
    if state == "failed":
        final = tags.get("failure.final") != "false"
        reason = tags.get("failure", "no reason was recorded")
        return replace(found, reason=reason, final=final)
    if state == "running":
        return found
    if state != "done":
        return replace(found, reason=cut_off(epochs))
    try:
        manifest = manifest_of(store, tracking_run)
    except Damaged as error:
        return replace(found, state="missing", reason=str(error))
    return replace(
        found,
        signals=frozenset(manifest.signals),
        passes=manifest.passes,
        objectives=dict(metrics),
    )


def cut_off(epochs: int) -> str:
    """The line about a run that is not done and that nobody trains."""
    after = f"after {epochs} epoch{'s' * (epochs != 1)}" if epochs else "in its first epoch"
    return f"cut off {after}; sweep run goes on"


def run_tags(run: RunSpec) -> dict[str, str]:
    """Tags of a seed's run."""
    return {"role": "run", "run_id": run.run_id, **_identity_tags(run.configuration)}


def _identity_tags(configuration: Configuration) -> dict[str, str]:
    """Tags that tell a configuration and its runs from others."""
    return {
        "configuration_id": configuration.configuration_id,
        "regimen": configuration.regimen,
        "dataset": str(configuration.dataset["name"]),
        "data_seed": str(configuration.dataset.get("data_seed", 0)),
        "plant": canonical_json(configuration.plant) if configuration.plant else "none",
    }


def flat(configuration: Configuration) -> dict[str, Any]:
    """A configuration's hyperparameters, by dotted key."""
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


def _short(value: Any) -> str:
    """A value as text; decimal numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
