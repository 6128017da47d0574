"""Ways to train that yield per-sample dynamics, by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hardness.dynamics import EpochRecord
from hardness.training import autoencoder as _autoencoder
from hardness.training import classifier_passes as _classifier_passes
from hardness.training import contrastive as _contrastive
from hardness.training import contrastive_passes as _contrastive_passes
from hardness.training import cross_fit as _cross_fit
from hardness.training import second_split as _second_split
from hardness.training import supervised as _supervised
from hardness.training.passes import Pass

__all__ = ["REGIMENS", "Regimen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """One way to train.

    Args:
        train: A generator function of ``EpochRecord``.
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

    train: Callable[..., Iterator[EpochRecord]]
    options: type[Any]
    numerics_version: int
    signals: tuple[str, ...]
    snapshots: tuple[str, ...]
    objective: tuple[str, Literal["maximize", "minimize"]]
    labels: bool
    passes: Mapping[str, Pass] = field(default_factory=dict)
    forwards: int = 4

    @property
    def offered(self) -> tuple[str, ...]:
        """All that a metric can read of a run: signals, those of passes, snapshots."""
        of_passes = (name for one in self.passes.values() for name in one.signals)
        return (*self.signals, *of_passes, *self.snapshots)


_EMBEDDING = ("feature_norm", "msd", "msd_cosine")
_NEIGHBORS = ("neighbor_distances", "neighbor_rows")
_LOGITS = (
    "loss", "p_label", "label_margin", "correct", "entropy", "el2n", "max_softmax", "margin",
    "energy",
)  # fmt: skip

REGIMENS: dict[str, Regimen] = {
    "supervised": Regimen(
        train=_supervised.supervised,
        options=_supervised.Supervised,
        numerics_version=_supervised.NUMERICS_VERSION,
        signals=(
            *_LOGITS,
            "grand_last_layer",
            "gradnorm",
            *_EMBEDDING,
            *(f"{name}.train" for name in _supervised.TRAIN_PHASE),
        ),
        snapshots=("emb", "logits", *_NEIGHBORS),
        objective=("val_accuracy", "maximize"),
        labels=True,
        passes=_classifier_passes.PASSES,
    ),
    "second_split": Regimen(
        train=_second_split.second_split,
        options=_second_split.SecondSplit,
        numerics_version=_second_split.NUMERICS_VERSION,
        signals=("correct_first_split", "correct_second_split"),
        snapshots=("fold",),
        objective=("val_accuracy", "maximize"),
        labels=True,
    ),
    "cross_fit": Regimen(
        train=_cross_fit.cross_fit,
        options=_cross_fit.CrossFit,
        numerics_version=_cross_fit.NUMERICS_VERSION,
        signals=(*_LOGITS, "gradnorm", "own_loss"),
        snapshots=("fold", "holdout_probs", "holdout_loss"),
        objective=("val_accuracy", "maximize"),
        labels=True,
        passes=_cross_fit.PASSES,
    ),
    "contrastive": Regimen(
        train=_contrastive.contrastive,
        options=_contrastive.Contrastive,
        numerics_version=_contrastive.NUMERICS_VERSION,
        signals=_EMBEDDING,
        snapshots=("emb", *_NEIGHBORS),
        objective=("val_loss", "minimize"),
        labels=False,
        passes=_contrastive_passes.PASSES,
        forwards=7,
    ),
    "autoencoder": Regimen(
        train=_autoencoder.autoencoder,
        options=_autoencoder.Autoencoder,
        numerics_version=_autoencoder.NUMERICS_VERSION,
        signals=("reconstruction_error", *_EMBEDDING),
        snapshots=("emb", *_NEIGHBORS),
        objective=("val_loss", "minimize"),
        labels=False,
    ),
}
