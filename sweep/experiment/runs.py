"""Runs, configurations and cells, and the identity of each."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal

from hardness.seeding import PURPOSES

State = Literal["done", "running", "failed", "missing"]


def canonical_json(value: object) -> str:
    """The one text of a value: keys sorted, no spaces, absent fields left out.

    A field that is None is left out, so that a later version may add options that are off by
    default without changing any identity.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(value: object) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
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
        numerics_version: Version of that regimen's numbers.
        dataset: Name, digest of the content, ``subset``, ``data_seed`` and ``validation``; no
            place. ``part`` says on which of the training samples a run trains: ``ids`` is the
            digest of their positions, ``counts`` are numbers by class, drawn by the run's seed.
        model: ``ModelOptions`` as plain values.
        options: The regimen's options as plain values.
        vary: Random streams that follow the seed.
        plant: Planted hardness; None for none.
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
        """16 hex digits; equal for equal numbers."""
        return identity(self)

    # In the text, the dataset's part stands beside the dataset and not in it. The first pruned runs
    # were stored like this, and ids are digests of the text: were the part moved, these runs would
    # no longer be found and would be trained again.
    def content(self) -> dict[str, Any]:
        """What the text and the ids are made of."""
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
    """Values by key, as tables and lines show them.

    Example:
        >>> shown_values({"train.lr": 0.1, "model.width": 4})
        'train.lr=0.1, model.width=4'
    """
    return ", ".join(f"{key}={value}" for key, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration of a sweep and the values that led to it.

    Args:
        configuration: What is trained.
        parameters: The searched values; of a pruning, the share that is kept and the part's name.
        number: Place in the order of proposal.
    """

    configuration: Configuration
    parameters: Mapping[str, Any]
    number: int


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One configuration under one seed: the whole identity of a run."""

    configuration: Configuration
    seed: int

    @cached_property
    def run_id(self) -> str:
        """16 hex digits of the configuration together with the seed."""
        return identity({"configuration": self.configuration, "seed": self.seed})


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One configuration and the seeds that share a process: the unit that is placed.

    Args:
        configuration: What to train.
        seeds: In the order of training.
        parent_run: Tracking id of the configuration's run.
    """

    configuration: Configuration
    seeds: tuple[int, ...]
    parent_run: str = ""

    def to_json(self) -> str:
        """Text that travels to a worker."""
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
        tracking_run: Its id there.
        state: ``running`` also covers a run that was cut off and will be taken up again.
        reason: Why it failed.
        final: Whether a failure is to stay; a lost worker's is not.
        signals: What its manifest lists.
        passes: The scoring passes that were made, each with its epochs.
        objectives: Last value of each summary number.
        epochs: How many are stored.
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
    """One (configuration, seed) of a sweep and how far it is."""

    run: RunSpec
    trace: Trace | None

    @property
    def state(self) -> State:
        """Done, running, failed or missing."""
        return self.trace.state if self.trace else "missing"
