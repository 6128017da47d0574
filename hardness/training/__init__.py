"""Ways to train that yield per-sample dynamics, by name; torch loads with the training alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from hardness.dynamics import EpochRecord
from hardness.signal_names import LOGIT_SIGNALS, TRAIN_PHASE
from hardness.training.options import (
    Autoencoder,
    Contrastive,
    CrossFit,
    SecondSplit,
    Supervised,
)
from hardness.training.passes import OF_CLASSIFIERS, OF_CONTRASTIVE, OUT_OF_FOLD, Pass

__all__ = ["REGIMENS", "Regimen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """One way to train.

    Args:
        name: Of its module here, and of the function in it.
        options: The dataclass of its options; it has a field ``train: TrainOptions`` and a
            property ``epochs``, the number of epochs that a run records.
        numerics_version: Raised when a fix changes the numbers, so that old runs are not reused.
        signals: The per-epoch signals that it records, each in all epochs or in some of them.
        snapshots: The arrays that it can keep of the last epoch. With ``fold`` among them, samples
            of different folds are scored by different models.
        objective: Name of the summary that a search optimises, and its direction.
        labels: Whether training reads the samples' own labels.
        passes: Its scoring passes, each of which records further signals in some epochs.
        forwards: What an epoch and its evaluation cost, in forward passes a sample.
    """

    name: str
    options: type[Any]
    numerics_version: int
    signals: tuple[str, ...]
    snapshots: tuple[str, ...]
    objective: tuple[str, Literal["maximize", "minimize"]]
    labels: bool
    passes: Mapping[str, Pass] = field(default_factory=dict)
    forwards: int = 4

    @property
    def train(self) -> Callable[..., Iterator[EpochRecord]]:
        """The training, a generator function."""
        return getattr(import_module(f"{__name__}.{self.name}"), self.name)

    @property
    def offered(self) -> tuple[str, ...]:
        """All that a metric can read of a run: signals, those of passes, snapshots."""
        of_passes = (name for one in self.passes.values() for name in one.signals)
        return (*self.signals, *of_passes, *self.snapshots)


_EMBEDDING = ("feature_norm", "msd", "msd_cosine")
_NEIGHBORS = ("neighbor_distances", "neighbor_rows")

REGIMENS: dict[str, Regimen] = {
    "supervised": Regimen(
        name="supervised",
        options=Supervised,
        numerics_version=1,
        signals=(
            *LOGIT_SIGNALS,
            "grand_last_layer",
            "gradnorm",
            *_EMBEDDING,
            *(f"{name}.train" for name in TRAIN_PHASE),
        ),
        snapshots=("emb", "logits", *_NEIGHBORS),
        objective=("val_accuracy", "maximize"),
        labels=True,
        passes=OF_CLASSIFIERS,
    ),
    "second_split": Regimen(
        name="second_split",
        options=SecondSplit,
        numerics_version=1,
        signals=("correct_first_split", "correct_second_split"),
        snapshots=("fold",),
        objective=("val_accuracy", "maximize"),
        labels=True,
    ),
    "cross_fit": Regimen(
        name="cross_fit",
        options=CrossFit,
        numerics_version=1,
        signals=(*LOGIT_SIGNALS, "gradnorm", "own_loss"),
        snapshots=("fold", "holdout_probs", "holdout_loss"),
        objective=("val_accuracy", "maximize"),
        labels=True,
        passes=OUT_OF_FOLD,
    ),
    "contrastive": Regimen(
        name="contrastive",
        options=Contrastive,
        numerics_version=1,
        signals=_EMBEDDING,
        snapshots=("emb", *_NEIGHBORS),
        objective=("val_loss", "minimize"),
        labels=False,
        passes=OF_CONTRASTIVE,
        forwards=7,
    ),
    "autoencoder": Regimen(
        name="autoencoder",
        options=Autoencoder,
        numerics_version=1,
        signals=("reconstruction_error", *_EMBEDDING),
        snapshots=("emb", *_NEIGHBORS),
        objective=("val_loss", "minimize"),
        labels=False,
    ),
}
