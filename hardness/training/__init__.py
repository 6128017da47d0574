"""Regimens (ways to train) by name; importing this loads no torch, running one does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hardness.dynamics.record import EpochRecord
from hardness.metrics.registry import TRAINED_ON
from hardness.signals.names import LOGIT_SIGNALS, TRAIN_PHASE
from hardness.training.options import Autoencoder, Contrastive, CrossFit, SecondSplit, Supervised
from hardness.training.passes import OF_CLASSIFIERS, OF_CONTRASTIVE, OUT_OF_FOLD, Pass

__all__ = ["REGIMENS", "Regimen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """One way to train.

    Args:
        name: Name of its module in this folder, and of the function in the module.
        options: Dataclass of its options, with a field ``train: TrainOptions`` and a property
            ``epochs``, the number of epochs that a run records.
        numerics_version: Increased when a fix changes the numbers, so that old runs are not reused.
        signals: Names of the signals that it records, each in all epochs or in some of them.
        snapshots: Names of arrays that it can keep from the last epoch. If ``fold`` is one of them,
            different models score the samples of different folds.
        objective: Name of the summary number that a search optimises.
        passes: Scoring passes by name; each records further signals in some epochs.
        forwards: Cost of an epoch and its evaluation, in forward passes per sample.
    """

    name: str
    options: type[Any]
    numerics_version: int
    signals: tuple[str, ...]
    snapshots: tuple[str, ...]
    objective: str
    passes: Mapping[str, Pass] = field(default_factory=dict)
    forwards: int = 4

    @property
    def train(self) -> Callable[..., Iterator[EpochRecord]]:
        """Generator function that trains: one record before the first epoch, one after each epoch.

        The caller decides what to keep and when to stop. Its arguments are:

        - ``dataset``: Training and validation samples.
        - ``model``: Options of the network.
        - ``options``: Options of this regimen.
        - ``streams``: Random streams; the same streams give the same bits on a CPU.
        - ``device``: Device to train on; the CPU if left out.
        - ``recording``: What to record; everything if left out.
        - ``resume``: Checkpoint to continue from, to the same bits as without a break; a new run
          if left out.
        """
        return getattr(import_module(f"{__name__}.{self.name}"), self.name)

    @property
    def labels(self) -> bool:
        """Whether training reads labels."""
        return TRAINED_ON[self.name] != "none"

    @property
    def offered(self) -> tuple[str, ...]:
        """All names that a metric can read: signals, signals of passes, snapshots."""
        of_passes = (name for one in self.passes.values() for name in one.signals)
        return (*self.signals, *of_passes, *self.snapshots)


_EMBEDDING = ("feature_norm", "msd", "msd_cosine")
_NEIGHBORS = ("neighbor_distances", "neighbor_rows")

_REGIMENS = (
    Regimen(
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
        objective="val_accuracy",
        passes=OF_CLASSIFIERS,
    ),
    Regimen(
        name="second_split",
        options=SecondSplit,
        numerics_version=1,
        signals=("correct_first_split", "correct_second_split"),
        snapshots=("fold",),
        objective="val_accuracy",
    ),
    Regimen(
        name="cross_fit",
        options=CrossFit,
        numerics_version=1,
        signals=(*LOGIT_SIGNALS, "gradnorm", "own_loss"),
        snapshots=("fold", "holdout_probs", "holdout_loss"),
        objective="val_accuracy",
        passes=OUT_OF_FOLD,
    ),
    Regimen(
        name="contrastive",
        options=Contrastive,
        numerics_version=1,
        signals=_EMBEDDING,
        snapshots=("emb", *_NEIGHBORS),
        objective="val_loss",
        passes=OF_CONTRASTIVE,
        forwards=7,
    ),
    Regimen(
        name="autoencoder",
        options=Autoencoder,
        numerics_version=1,
        signals=("reconstruction_error", *_EMBEDDING),
        snapshots=("emb", *_NEIGHBORS),
        objective="val_loss",
    ),
)
REGIMENS: dict[str, Regimen] = {regimen.name: regimen for regimen in _REGIMENS}
