"""Cross-entropy over the course of training."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries
from hardness.metrics.registry import metric


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="mean cross-entropy over the epochs",
    paper="Ravikumar et al., 2025; Seedat et al., ICLR 2024",
    variants={"last": {"over": "last"}, "first_half": {"over": "first_half"}},
)
def mean_loss(
    loss: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["all", "last", "first_half"] = "all",
) -> Float64[np.ndarray, " samples"]:
    """Mean cross-entropy of the label over epochs, the cumulative loss of a sample.

    High is hard: the label is learned late or never. It is the baseline that any other metric must
    beat.

    Args:
        loss: Signal ``loss``, in nats, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.
        over: Epochs to average. ``first_half`` leaves out the middle one of an odd number, but
            never the only one.

    Returns:
        One value per sample, from 0, unbounded; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> loss = np.array([[2.0, 1.0], [1.0, 3.0]])
        >>> mean_loss(loss).tolist(), mean_loss(loss, over="first_half").tolist()
        ([1.5, 2.0], [2.0, 1.0])

    References:
        Ravikumar et al., on the cumulative sample loss, 2025; Seedat et al., "Dissecting Sample
        Hardness", ICLR 2024. Agrees with seedatnabeel/H-CAT, hardness.py. Computed by log-sum-exp
        in float64, since the logarithm of a float32 softmax may be infinite.
    """
    seen = seen_entries(loss, seen)
    epochs = len(loss)
    rows = {
        "all": slice(None),
        "last": slice(epochs - 1, None),
        "first_half": slice(max(1, epochs // 2)),
    }[over]
    return mean_seen(loss[rows], seen[rows])
