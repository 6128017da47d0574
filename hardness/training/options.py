"""Options of each regimen, apart from the training, which loads torch."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from hardness.models.options import Augmentation

MOST_EPOCHS = 1_000_000
HALVES = 2
FEWEST_FOLDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What an experiment file says under ``train:``.

    Args:
        max_epochs: Passes over the training samples.
        batch_size: Samples a step.
        optimizer: ``sgd`` with Nesterov momentum, or ``adamw``.
        lr: Peak learning rate.
        momentum: Of ``sgd``.
        weight_decay: As the optimizer defines it: added to the gradient by ``sgd``, decoupled by
            ``adamw``.
        schedule: ``cosine`` to zero, ``one_cycle`` (30 % rising) or ``constant``, by step.
        precision: ``f32``, or ``bf16`` autocast; scores are computed in float64 either way.
        compile: Compile the network with ``torch.compile``.
        threads: CPU threads; other counts give other bits.
        deterministic: Refuse operations that may give other bits on a second run; left out, true
            on a CPU and false on a GPU, where it costs speed.

    Raises:
        ValueError: If a number is out of range.
    """

    max_epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    precision: Literal["f32", "bf16"] = "f32"
    compile: bool = False
    threads: int = 1
    deterministic: bool | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1; got {getattr(self, name)}")
        if self.max_epochs > MOST_EPOCHS:
            raise ValueError(f"max_epochs: expected at most {MOST_EPOCHS}; got {self.max_epochs}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr: expected a positive number; got {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay: expected 0 or more; got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1); got {self.momentum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What an experiment file says under ``regimens: supervised:``.

    Args:
        train: The optimization.
        augmentation: Of the training images; evaluation sees them clean.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondSplit:
    """What an experiment file says under ``regimens: second_split:``.

    Args:
        train: The optimization; its ``max_epochs`` are those on the first half.
        second_epochs: Passes over the second half, under the same optimization started afresh.
        augmentation: Of the training images; evaluation sees them clean.
        split_seed: Draws the halves, the same for every run of the configuration.

    Raises:
        ValueError: If a number is out of range.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    second_epochs: int = 30
    augmentation: Augmentation = field(default_factory=Augmentation)
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.second_epochs < 1:
            raise ValueError(f"second_epochs: expected at least 1; got {self.second_epochs}")

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs + self.second_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """What an experiment file says under ``regimens: cross_fit:``.

    Args:
        folds: Parts of the samples, and networks. Each network trains on all parts but one. Two
            folds cost as much training as a supervised run, but each network has half the data;
            k folds cost k - 1 times as much, and leave it all but one k-th.
        train: The optimization, the same for all networks.
        augmentation: Of the training images; evaluation sees them clean.
        split_seed: Deals the folds, the same for every run of the configuration; the folds of 2
            are the halves of ``second_split`` under the same seed.

    Raises:
        ValueError: If a number is out of range.
    """

    folds: int = FEWEST_FOLDS
    train: TrainOptions = field(default_factory=TrainOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < FEWEST_FOLDS:
            raise ValueError(f"folds: expected at least {FEWEST_FOLDS}; got {self.folds}")

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs


def _views() -> Augmentation:
    return Augmentation(
        crop_scale=(0.3, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, grayscale=0.2
    )


def _adamw(batch_size: int) -> TrainOptions:
    return TrainOptions(optimizer="adamw", lr=2e-3, batch_size=batch_size, weight_decay=1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrastive:
    """What an experiment file says under ``regimens: contrastive:``.

    Args:
        objective: ``simclr`` (NT-Xent) or ``barlow_twins``.
        temperature: Of NT-Xent.
        off_diagonal: Weight of Barlow Twins' redundancy term.
        projection: Units of the projection head's output.
        train: The optimization.
        augmentation: How a view differs from its image.

    Raises:
        ValueError: If a number is out of range.
    """

    objective: Literal["simclr", "barlow_twins"] = "simclr"
    temperature: float = 0.5
    off_diagonal: float = 5e-3
    projection: int = 128
    train: TrainOptions = field(default_factory=partial(_adamw, batch_size=256))
    augmentation: Augmentation = field(default_factory=_views)

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number; got {self.temperature}")
        if not self.off_diagonal >= 0:
            raise ValueError(f"off_diagonal: expected 0 or more; got {self.off_diagonal}")
        if self.projection < 1:
            raise ValueError(f"projection: expected at least 1; got {self.projection}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """What an experiment file says under ``regimens: autoencoder:``.

    Args:
        decoder_channels: Of the decoder at the image's own size; twice as many at half the size,
            and so on, up to eight times as many.
        train: The optimization.
        augmentation: Of the training images, each of which is then both input and target;
            evaluation sees them clean.

    Raises:
        ValueError: If a number is out of range.
    """

    decoder_channels: int = 32
    train: TrainOptions = field(default_factory=partial(_adamw, batch_size=128))
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs

    def __post_init__(self) -> None:
        if self.decoder_channels < 1:
            raise ValueError(f"decoder_channels: expected at least 1; got {self.decoder_channels}")
