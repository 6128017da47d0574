"""Gradient norm of a self-supervised loss in a sample's pixels."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries, std_seen
from hardness.metrics.registry import metric

_SOURCE = "Natifick/Unsupervisely-Hard"
# `stacked` joins both views, so that nothing cancels; `own` is of the sample's own loss.
LGN_VARIANTS = {"stacked": {"lgn": "lgn.stacked"}, "own": {"lgn": "lgn.own"}}


@metric(
    family="loss-based",
    sign=-1,
    sign_origin="measured",
    labels_used="none",
    summary="mean gradient norm of the loss in the pixels",
    paper=_SOURCE,
    signal_variants=LGN_VARIANTS,
)
def lgn_mean(
    lgn: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Mean over the scored epochs of the loss's gradient norm in the pixels.

    Low is hard. The sign was measured on CIFAR-10 against forgetting counts (Spearman's correlation
    -0.287), so results on CIFAR-10 are exploratory.

    Args:
        lgn: Signal ``lgn``, one row per scored epoch.
        seen: Which samples were scored in which epoch; all, if left out.

    Returns:
        One value per sample, from 0, in units of the gradient; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> lgn_mean(np.array([[1.0, 4.0], [3.0, 4.0]])).tolist()
        [2.0, 4.0]

    References:
        Natifick/Unsupervisely-Hard, loss_experiment.ipynb: the formula of its mean over epochs. Its
        gradients also vary with the size of the batch.
    """
    return mean_seen(lgn, seen_entries(lgn, seen))


@metric(
    family="loss-based",
    sign=-1,
    sign_origin="measured",
    labels_used="none",
    summary="standard deviation of the gradient norm of the loss in the pixels",
    paper=_SOURCE,
    signal_variants=LGN_VARIANTS,
)
def lgn_std(
    lgn: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Standard deviation over the scored epochs of the loss's gradient norm in the pixels.

    Low is hard, as for ``lgn_mean``; measured in the same way (Spearman's correlation -0.282).

    Args:
        lgn: Signal ``lgn``, one row per scored epoch.
        seen: Which samples were scored in which epoch; all, if left out.

    Returns:
        One population standard deviation per sample; NaN where seen less than twice.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> lgn_std(np.array([[1.0, 4.0], [3.0, 4.0]])).tolist()
        [1.0, 0.0]

    References:
        Natifick/Unsupervisely-Hard, loss_experiment.ipynb; see ``lgn_mean``.
    """
    return std_seen(lgn, seen_entries(lgn, seen))
