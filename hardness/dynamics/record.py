"""The record of one epoch, the choice of what to record, and the error of diverged training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

if TYPE_CHECKING:
    from hardness.dynamics.checkpoint import Checkpoint

INIT = -1
UNKNOWN = -1  # label of a sample that training has not presented yet


class Diverged(ArithmeticError):  # noqa: N818 - it states what happened to the run
    """Training produced NaN or infinity; the run stops here."""


def _kept_elsewhere() -> "Checkpoint":
    raise LookupError("expected a record with a checkpoint; got one without")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochRecord:
    """The results of one epoch.

    Args:
        epoch: Number of the epoch from 0; ``INIT`` before training.
        signals: One ``[samples]`` array of floats or bools per signal; the names of train-phase
            signals end in ``.train``.
        summary: Numbers of the whole epoch, such as ``train_loss``, ``val_accuracy`` and ``lr``,
            the learning rate of its first step.
        snapshots: Larger arrays with samples as first axis; from the last epoch only.
        checkpoint: Function that copies the training state; call it before the next record.
    """

    epoch: int
    signals: Mapping[str, Shaped[np.ndarray, " samples"]]
    summary: Mapping[str, float]
    snapshots: Mapping[str, Shaped[np.ndarray, "samples ..."]] = field(default_factory=dict)
    checkpoint: Callable[[], "Checkpoint"] = _kept_elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The choice of what a run records. It does not change the training.

    Args:
        signals: Whether to record per-sample signals; a run without them only trains and evaluates.
        snapshots: Which of ``emb``, ``logits``, ``neighbor_distances``, ``neighbor_rows`` and
            ``holdout_probs`` to keep from the last epoch. ``fold`` and ``holdout_loss`` are kept
            whenever they exist.
        passes: Names of the scoring passes to make; none are made without ``signals``. Each costs
            much more than an evaluation.
        score_epochs: Epochs of the scoring passes, negative ones from the end; the default epochs
            of each pass, if left out.
    """

    signals: bool = True
    snapshots: tuple[str, ...] = (
        "emb",
        "logits",
        "neighbor_distances",
        "neighbor_rows",
        "holdout_probs",
    )
    passes: tuple[str, ...] = ()
    score_epochs: tuple[int, ...] | None = None
