"""Runs, configurations, cells and packs, and their identities."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal

from hardness.seeding import PURPOSES

State = Literal["done", "running", "failed", "missing"]


def canonical_json(value: object) -> str:
    """JSON with sorted keys, without spaces and without fields that are None.

    Since None is left out, a later version may add options that are None by default and keep all
    identities.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(value: object) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A value with dataclasses as mappings, tuples as lists, and without fields that are None."""
    if isinstance(value, Configuration):
        return plain(value.content())
    if is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that changes a training's numbers, except the seed.

    Args:
        regimen: Key of ``REGIMENS``.
        numerics_version: Version of the regimen's numbers.
        dataset: Name, digest of the content, ``subset``, ``data_seed`` and ``validation``, without
            folders. ``part`` selects training samples: ``ids`` is the digest of their positions,
            ``counts`` are numbers of samples per class, drawn by the run's seed.
        model: ``ModelOptions`` as plain values.
        options: Options of the regimen as plain values.
        vary: Random streams that depend on the seed.
        plant: Planted hardness as plain values; None if nothing is planted.
    """

    regimen: str
    numerics_version: int
    dataset: Mapping[str, Any]
    model: Mapping[str, Any]
    options: Mapping[str, Any]
    vary: tuple[str, ...] = PURPOSES
    plant: Mapping[str, Any] | None = None

    @cached_property
    def configuration_id(self) -> str:
        """16 hex digits; equal configurations have equal ids."""
        return identity(self)

    # The text has the dataset's part beside the dataset, not in it. Ids of the first pruned runs
    # come from such texts: if the part moved, these runs would be trained again.
    def content(self) -> dict[str, Any]:
        """Values from which the text and the ids are made."""
        dataset = {**self.dataset}
        part = dataset.pop("part", None)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "dataset": dataset, "part": part}

    @classmethod
    def from_json(cls, text: str) -> "Configuration":
        """Inverse of ``canonical_json``."""
        content = json.loads(text)
        part = content.pop("part", None)
        if part is not None:
            content["dataset"] = {**content["dataset"], "part": part}
        return cls(**{**content, "vary": tuple(content["vary"])})


def shown_values(values: Mapping[str, Any]) -> str:
    """Values by key as one text, for tables and lines.

    Example:
        >>> shown_values({"train.lr": 0.1, "model.width": 4})
        'train.lr=0.1, model.width=4'
    """
    return ", ".join(f"{key}={value}" for key, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration of a sweep and the values that led to it.

    Args:
        configuration: The configuration.
        parameters: Searched values; in a pruning sweep, the kept share and the part's name.
        number: Place in the order of proposal.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A configuration and a seed, which together identify a run."""

    configuration: Configuration
    seed: int

    @cached_property
    def run_id(self) -> str:
        """16 hex digits of a digest of configuration and seed."""
        return identity({"configuration": self.configuration, "seed": self.seed})


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One configuration and the seeds that one process trains.

    Args:
        configuration: Configuration to train.
        seeds: Seeds, in the order of training.
        parent_run: Tracking id of the configuration's run.
    """

    configuration: Configuration
    seeds: tuple[int, ...]
    parent_run: str = ""

    def to_json(self) -> str:
        """The pack as text, to be sent to a worker."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Pack":
        """Inverse of ``to_json``."""
        content = json.loads(text)
        return cls(
            configuration=Configuration.from_json(json.dumps(content["configuration"])),
            seeds=tuple(content["seeds"]),
            parent_run=content["parent_run"],
        )


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the store knows of one run.

    Args:
        tracking_run: Id of the run in the store.
        state: State of the run. ``running`` also covers a run that was cut off and will go on.
        reason: Reason of the failure or the gap.
        final: Whether a failure stays. The failure of a lost worker does not.
        signals: Signals in the run's manifest.
        passes: Scoring passes that were made, each with its epochs.
        objectives: Last value of each summary number.
        epochs: Number of stored epochs.
    """

    tracking_run: str
    state: State
    reason: str = ""
    final: bool = True
    signals: frozenset[str] = frozenset()
    passes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    objectives: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (configuration, seed) of a sweep and its state."""

    run: RunSpec
    trace: Trace | None

    @property
    def state(self) -> State:
        """Done, running, failed or missing."""
        return self.trace.state if self.trace else "missing"
