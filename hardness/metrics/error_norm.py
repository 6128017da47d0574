"""Distance of the predicted probabilities from the label."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import seen_entries
from hardness.metrics.registry import metric


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="norm of the error vector in the last epoch",
    paper="Paul et al., NeurIPS 2021",
    last_epoch=True,
    variants={f"e{epochs}": {"epoch": epochs - 1} for epochs in (1, 5, 10, 20)},
)
def el2n(
    el2n: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    epoch: int = -1,
) -> Float64[np.ndarray, " samples"]:
    """Error L2 norm: distance of the predicted probabilities from the one-hot label, at one epoch.

    High is hard: such samples still move the weights. It is meant for an early epoch and a mean
    over runs. Late in training it is only the remaining error on memorized samples.

    The variants ``el2n.e1``, ``.e5``, ``.e10`` and ``.e20`` are taken after that many epochs of
    training. As in the paper, epoch 0 is the untrained network: ``el2n.e10`` reads the epoch stored
    as 9.

    Args:
        el2n: Signal ``el2n``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.
        epoch: 0-based epoch, counted from the end if negative; the last, if left out.

    Returns:
        One value per sample in 0 to the root of 2; NaN where not seen in that epoch, and for all
        samples of a run without that epoch.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> el2n(np.array([[1.0, 1.2], [0.1, 0.9]])).tolist()
        [0.1, 0.9]
        >>> el2n(np.array([[1.0, 1.2], [0.1, 0.9]]), epoch=9).tolist()
        [nan, nan]

    References:
        Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training",
        NeurIPS 2021. Agrees with mansheej/data_diet, scores.py. H-CAT takes the square, which keeps
        the order within a run but not after averaging runs.
    """
    seen = seen_entries(el2n, seen)
    if not -len(el2n) <= epoch < len(el2n):
        return np.full(el2n.shape[1], np.nan)
    return np.where(seen[epoch], el2n[epoch].astype(np.float64), np.nan)
