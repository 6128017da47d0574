"""One epoch's record, what is to be recorded, and the error of a training that diverged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

if TYPE_CHECKING:
    from hardness.dynamics.checkpoint import Checkpoint

INIT = -1
UNKNOWN = -1  # the label of a sample that was not presented yet


class Diverged(ArithmeticError):  # noqa: N818 - it states what happened to the run
    """Training left the finite numbers; the run has no further dynamics."""


def _kept_elsewhere() -> "Checkpoint":
    raise LookupError("whoever recorded this epoch left the state of the training to others")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochRecord:
    """What one epoch leaves behind.

    Args:
        epoch: 0-based; ``INIT`` before training.
        signals: One ``[samples]`` array each, floats or bool; train-phase signals end in
            ``.train``.
        summary: Numbers of the whole epoch, such as ``train_loss``, ``val_accuracy`` and ``lr``,
            the learning rate of its first step.
        snapshots: Larger arrays with samples first, of the last epoch only.
        checkpoint: Copies the state to go on from; call it before asking for the next record.
    """

    epoch: int
    signals: Mapping[str, Shaped[np.ndarray, " samples"]]
    summary: Mapping[str, float]
    snapshots: Mapping[str, Shaped[np.ndarray, "samples ..."]] = field(default_factory=dict)
    checkpoint: Callable[[], "Checkpoint"] = _kept_elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a run keeps beyond its training; none of it changes the training.

    Args:
        signals: Record per-sample signals; without them a run only trains and evaluates.
        snapshots: Which of ``emb``, ``logits``, ``neighbor_distances``, ``neighbor_rows`` and
            ``holdout_probs`` to keep of the last epoch; ``fold`` and ``holdout_loss`` are kept
            wherever there are any.
        passes: Names of the scoring passes to make, each dear beside an evaluation; none of them
            without ``signals``.
        score_epochs: Epochs in which to make them, from the end if negative; those that suit each
            pass, if left out.
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
