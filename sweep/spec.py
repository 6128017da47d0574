"""What a sweep is made of: runs, configurations and their identity, cells, packs."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal

from hardness.options import DatasetOptions, ModelOptions
from hardness.plan import Planting
from hardness.sequential import looks
from hardness.stability import FEWEST_RUNS_FOR_INTERVAL
from hardness.stream_names import PURPOSES
from hardness.training import REGIMENS
from sweep.needs import Keep, Needs
from sweep.plugins import Plugin

State = Literal["done", "running", "failed", "missing"]


def canonical_json(value: object) -> str:
    """The one text of a value: keys sorted, no spaces, absent fields left out.

    A field that is None is left out, so that a later version may add options that are off by
    default without changing any identity.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(value: object) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Configuration):
        return _plain(value.content())
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Values that a search may choose from: a list, or an interval with its distribution."""

    values: tuple[Any, ...] | None = None
    min: float | None = None
    max: float | None = None
    distribution: Literal["uniform", "log_uniform", "int_uniform"] | None = None

    def __post_init__(self) -> None:
        if self.values is not None:
            if not self.values:
                raise ValueError("values: expected at least one; got none")
            if (self.min, self.max, self.distribution) != (None, None, None):
                raise ValueError("expected values alone; got min, max or distribution too")
            return
        if self.min is None or self.max is None:
            got = "neither" if self.min is self.max else "only one of them"
            raise ValueError(f"expected values, or both min and max; got {got}")
        if not -math.inf < self.min < self.max < math.inf:
            raise ValueError(f"expected min below max; got min: {self.min}, max: {self.max}")
        if self.distribution == "log_uniform" and self.min <= 0:
            raise ValueError(f"min: expected more than 0 for log_uniform; got {self.min}")
        if self.distribution == "int_uniform" and not (self.min % 1 == self.max % 1 == 0):
            raise ValueError(
                f"expected whole numbers for int_uniform; got min: {self.min}, max: {self.max}"
            )

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All values of a list, or both ends of an interval."""
        if self.values is not None:
            return self.values
        assert self.min is not None
        assert self.max is not None
        if self.distribution == "int_uniform":
            return int(self.min), int(self.max)
        return self.min, self.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The summary number that a search optimises, averaged over seeds."""

    name: str
    goal: Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class RegimenSpec:
    """One regimen of a sweep: fixed options, and the parameters that vary."""

    options: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    metric: Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Where and how runs are placed; nothing here changes a number.

    Args:
        cpu: CPUs a pack.
        gpu: GPUs a pack, also a fraction.
        seeds_per_pack: Seeds that share a process. Processes are used again by later packs, so
            one seed a pack costs little and balances best.
        max_failures: How often a pack whose process was lost is started again.
        checkpoint_seconds: Least time between two checkpoints of a run.
        spool_gib: What a pack may keep on disk while the tracker is down or slow; above it,
            training waits.
    """

    cpu: float = 1
    gpu: float = 0
    seeds_per_pack: int = 1
    max_failures: int = 3
    checkpoint_seconds: float = 10.0
    spool_gib: float = 4.0

    def __post_init__(self) -> None:
        for name in ("cpu", "gpu", "max_failures", "checkpoint_seconds", "spool_gib"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected 0 or more; got {getattr(self, name)}")
        if self.gpu > 1 and self.gpu % 1:
            raise ValueError(f"gpu: expected a share up to 1 or a whole number; got {self.gpu}")
        if self.cpu == self.gpu == 0:
            raise ValueError("expected some cpu or gpu; got 0 of both")
        if self.seeds_per_pack < 1:
            raise ValueError(f"seeds_per_pack: expected at least 1; got {self.seeds_per_pack}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """What ends the adding of seeds.

    Args:
        metric: Key of ``METRICS`` of scope ``run``.
        reliability: Of the mean over seeds, to be passed by the lower end of its interval.
    """

    metric: str
    reliability: float

    def __post_init__(self) -> None:
        if not 0 < self.reliability < 1:
            raise ValueError(
                f"reliability: expected a number above 0 and below 1; got {self.reliability}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveSeeds:
    """Seeds that each configuration gets until a metric is reliable enough.

    Args:
        min: Seeds at the first look.
        max: Seeds at the last one.
        until: What ends it before that.
    """

    min: int
    max: int
    until: Until

    def __post_init__(self) -> None:
        if self.min < FEWEST_RUNS_FOR_INTERVAL:
            raise ValueError(
                f"min: expected at least {FEWEST_RUNS_FOR_INTERVAL}, fewer give no interval; "
                f"got {self.min}"
            )
        if self.max < self.min:
            raise ValueError(f"max: expected at least the min of {self.min}; got {self.max}")

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds at each look."""
        return looks(self.min, self.max)


@dataclass(frozen=True, kw_only=True)
class RunsSpec:
    """What the tables of a set of runs depend on, whoever trained the runs.

    Args:
        name: Name of the sweep, and of the folder with its tables and figures.
        storage_path: Folder in which that folder is.
        dataset: Dataset of the runs; None if it is unknown.
        regimens: Regimens of the runs, with the number that a configuration is judged by.
        metrics: Keys of the metrics that are asked for.
        plugins: The user's own metrics.
        keep: What stays of a run beside its per-epoch signals.
        adaptive: What ends the adding of seeds; None if their number is fixed.
        dataset_digest: Digest of the dataset's content; None until it is read.
        dataset_size: Samples, classes, channels, height and width; None until the dataset is read.
        score_epochs: Epochs of the scoring passes; each pass's own, if None.
    """

    name: str
    storage_path: str
    dataset: DatasetOptions | None
    regimens: Mapping[str, RegimenSpec]
    metrics: tuple[str, ...]
    plugins: tuple[Plugin, ...]
    keep: Keep
    adaptive: AdaptiveSeeds | None = None
    dataset_digest: str | None = None
    dataset_size: tuple[int, ...] | None = None
    score_epochs: tuple[int, ...] | None = None

    @cached_property
    def needs(self) -> Needs:
        """What the runs must record, or must have recorded."""
        return Needs.of(
            self.regimens,
            self.metrics,
            self.keep,
            self.dataset_size,
            score_epochs=self.score_epochs,
            until=self.adaptive.until.metric if self.adaptive else None,
        )


@dataclass(frozen=True, kw_only=True)
class SweepSpec(RunsSpec):
    """An experiment file, read and checked, and what is known of its dataset once that is read.

    ``seeds`` are all that a configuration may get; with ``adaptive`` it may end with fewer. A sweep
    that prunes searches nothing: its configurations are the ``arms``, two of which may be the same.
    """

    dataset: DatasetOptions
    validation: Literal["test"] | float | None
    model: ModelOptions
    method: Literal["grid", "random", "bayes"]
    max_configurations: int | None
    search_seed: int
    seeds: tuple[int, ...]
    vary: tuple[str, ...]
    resources: Resources
    tracking_uri: str | None
    artifacts: str | None = None
    plant: Planting | None = None
    arms: tuple[Proposal, ...] = ()

    def most_seeds(self, regimen: str) -> tuple[int, ...]:
        """All seeds that a configuration of a regimen may get; without the metric, the fewest."""
        if self.adaptive is None or regimen in self.needs.adaptive:
            return self.seeds
        return self.seeds[: self.adaptive.min]

    def configuration(self, regimen: str, options: Any, model: ModelOptions) -> Configuration:
        """The configuration of checked options; needs the dataset's digest."""
        assert self.dataset_digest is not None
        dataset = {
            "name": self.dataset.name,
            "digest": self.dataset_digest,
            "subset": self.dataset.subset,
            "data_seed": self.dataset.data_seed,
            "validation": self.validation,
        }
        return Configuration(
            regimen=regimen,
            numerics_version=REGIMENS[regimen].numerics_version,
            dataset={k: v for k, v in dataset.items() if v is not None},
            model=_plain(model.named()),
            options=_plain(options),
            vary=self.vary,
            plant=None if self.plant is None else _plain(self.plant.identity()),
        )
