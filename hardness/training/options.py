"""Options of each regimen; nothing here imports torch."""

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
        max_epochs: Number of passes over the training samples.
        batch_size: Number of samples per step.
        optimizer: ``sgd`` with Nesterov momentum, or ``adamw``.
        lr: Peak learning rate.
        momentum: Momentum of ``sgd``; ``adamw`` ignores it.
        weight_decay: Weight decay: added to the gradient by ``sgd``, decoupled by ``adamw``.
        schedule: Learning rate by step: ``cosine`` to zero, ``one_cycle`` (rising for the first
            30 %) or ``constant``.
        precision: ``f32``, or ``bf16`` autocast; scores are computed in float64 in both cases.
        compile: Whether to compile the network with ``torch.compile``.
        threads: Number of CPU threads; another number gives other bits.
        deterministic: Whether to refuse operations that may give other bits in a second run. If
            left out, true on a CPU and false on a GPU, where it costs speed.

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
        train: Options of the optimization.
        augmentation: Augmentation of training images; evaluation uses clean images.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def epochs(self) -> int:
        """Number of epochs that a run records, without the record before training."""
        return self.train.max_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondSplit:
    """What an experiment file says under ``regimens: second_split:``.

    Args:
        train: Options of the optimization; ``max_epochs`` counts passes over the first half.
        second_epochs: Number of passes over the second half, with a new optimizer and schedule.
        augmentation: Augmentation of training images; evaluation uses clean images.
        split_seed: Seed that draws the halves; all runs of a configuration share them.

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
        """Number of epochs that a run records, without the record before training."""
        return self.train.max_epochs + self.second_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """What an experiment file says under ``regimens: cross_fit:``.

    Args:
        folds: Number k of folds and of networks. Each network trains on all folds but one, which
            costs k - 1 times as much training as a supervised run. With two folds, the cost is
            the same, but each network has only half the data.
        train: Options of the optimization, the same for all networks.
        augmentation: Augmentation of training images; evaluation uses clean images.
        split_seed: Seed that draws the folds; all runs of a configuration share them. Two folds
            are the halves of ``second_split`` with the same seed.

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
        """Number of epochs that a run records, without the record before training."""
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
        temperature: Temperature of NT-Xent.
        off_diagonal: Weight of the redundancy term of Barlow Twins.
        projection: Number of output units of the projection head.
        train: Options of the optimization.
        augmentation: Operations that make a view from an image.

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
        """Number of epochs that a run records, without the record before training."""
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
        decoder_channels: Number of channels in the decoder at the image's own size. It doubles each
            time the size is halved, up to eight times as many.
        train: Options of the optimization.
        augmentation: Augmentation of training images; the augmented image is input and target.
            Evaluation uses clean images.

    Raises:
        ValueError: If a number is out of range.
    """

    decoder_channels: int = 32
    train: TrainOptions = field(default_factory=partial(_adamw, batch_size=128))
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def epochs(self) -> int:
        """Number of epochs that a run records, without the record before training."""
        return self.train.max_epochs

    def __post_init__(self) -> None:
        if self.decoder_channels < 1:
            raise ValueError(f"decoder_channels: expected at least 1; got {self.decoder_channels}")
