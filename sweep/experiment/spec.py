"""A checked experiment file: the spec of a sweep and its sections."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from hardness.comparison.enough_seeds import looks
from hardness.comparison.observed_scores import FEWEST_RUNS_FOR_INTERVAL
from hardness.data.options import DatasetOptions
from hardness.models.options import ModelOptions
from hardness.planting.options import Planting
from hardness.training import REGIMENS
from sweep.experiment.needs import Keep, Needs
from sweep.experiment.plugins import Plugin
from sweep.experiment.runs import Configuration, Proposal, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Values for a search: a list, or an interval with a distribution."""

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
    """One regimen of a sweep: fixed options, searched parameters and objective."""

    options: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    metric: Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of the processes that train; they change no numbers.

    Args:
        cpu: CPUs per pack.
        gpu: GPUs per pack; a fraction shares one GPU.
        seeds_per_pack: Seeds that share a process. Later packs reuse processes, so one seed per
            pack costs little and spreads the work best.
        max_failures: Number of times that a pack is started again after its process was lost.
        checkpoint_seconds: Shortest time between two checkpoints of a run.
        spool_gib: GiB that a pack may keep on disk while the tracker is down or slow; above it,
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
    """The condition at which no more seeds are added.

    Args:
        metric: Key in ``METRICS`` of a metric of scope ``run``.
        reliability: Reliability that the lower end of its interval must pass.
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
    """Seeds that are added to a configuration until a metric is reliable enough.

    Args:
        min: Number of seeds at the first look.
        max: Number of seeds at the last look.
        until: Condition that ends the adding earlier.
    """

    min: int
    max: int
    until: Until

    def __post_init__(self) -> None:
        if self.min < FEWEST_RUNS_FOR_INTERVAL:
            raise ValueError(
                f"min: expected at least {FEWEST_RUNS_FOR_INTERVAL}, since fewer seeds give no "
                f"interval; got {self.min}"
            )
        if self.max < self.min:
            raise ValueError(f"max: expected at least the min of {self.min}; got {self.max}")

    @property
    def looks(self) -> tuple[int, ...]:
        """Number of seeds at each look."""
        return looks(self.min, self.max)


@dataclass(frozen=True, kw_only=True)
class RunsSpec:
    """Settings that the tables of a set of runs depend on, whoever trained the runs.

    Args:
        name: Name of the sweep, and of the folder with its tables and figures.
        storage_path: Parent of the folder ``name``.
        dataset: Dataset of the runs; None if it is unknown.
        regimens: Regimens of the runs, by key of ``REGIMENS``.
        metrics: Keys of the asked metrics.
        plugins: Metrics of the user.
        keep: Large signals that a run keeps beside its per-epoch signals.
        adaptive: Rule for adding seeds; None if their number is fixed.
        dataset_digest: Digest of the dataset's content; None until the dataset is read.
        dataset_size: Samples, classes, channels, height and width; None until the dataset is read.
        score_epochs: Epochs of the scoring passes; if None, each pass has its own.
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
        """What the runs must record."""
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
    """A checked experiment file, with digest and size of its dataset once that is read.

    ``seeds`` are the most that a configuration may get; with ``adaptive`` it may get fewer. A
    pruning sweep searches nothing. Its configurations are the ``arms``; two of them may be equal.
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
        """The most seeds that a regimen's configuration may get; ``min`` without the metric."""
        if self.adaptive is None or regimen in self.needs.adaptive:
            return self.seeds
        return self.seeds[: self.adaptive.min]

    def configuration(self, regimen: str, options: Any, model: ModelOptions) -> Configuration:
        """The configuration with these options; needs the dataset's digest."""
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
            model=plain(model.named()),
            options=plain(options),
            vary=self.vary,
            plant=None if self.plant is None else plain(self.plant.identity()),
        )
