"""Difference between a sample's history in the first and in the last epochs of training."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries
from hardness.metrics.loss_gradient import LGN_VARIANTS
from hardness.metrics.registry import metric

_SOURCE = "Natifick/Unsupervisely-Hard"
_RATIO = {"ratio": {"ratio": True}}


@metric(
    family="unsupervised",
    sign=-1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="early minus late displacement of the embedding",
    paper=_SOURCE,
    variants=_RATIO,
)
def msd_discrepancy(
    msd: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    k: int = 5,
    ratio: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Mean displacement in the first k epochs that have one, minus the mean in the last k.

    Low is taken to be hard: a sample that is learned fast moves much at first and then rests. This
    is the source's own argument, a hypothesis; no measurement has been published.

    Args:
        msd: Signal ``msd``, in row e the displacement into epoch e. The first row is undefined and
            not read, so the first epochs are 1 to k.
        seen: Which samples were evaluated in which epoch; all, if left out.
        k: Number of epochs at each end.
        ratio: Whether to divide the early mean by the late mean instead of subtracting.

    Returns:
        One value per sample, in squared units of the embedding or, as a ratio, without unit; NaN
        with fewer than 2k displacements that were seen and are not NaN, and for a ratio to 0.

    Raises:
        ValueError: If the arrays disagree in shape or k is below 1.

    Example:
        >>> msd_discrepancy(np.array([[np.nan], [5.0], [4.0], [2.0], [1.0]]), k=2).tolist()
        [3.0]

    References:
        Defined in Natifick/Unsupervisely-Hard, which never measured it: see ``msd_mean``. What it
        publishes under this name is ``feature_norm_discrepancy``.
    """
    seen = seen_entries(msd, seen)
    moved = seen[1:] & np.logical_or.accumulate(seen, axis=0)[:-1]
    return _early_to_late(msd[1:], moved, k, ratio=ratio)


@metric(
    family="unsupervised",
    sign=-1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="early minus late mean square of the embedding",
    paper=_SOURCE,
    variants=_RATIO,
)
def feature_norm_discrepancy(
    feature_norm: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    k: int = 5,
    ratio: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Mean square of the embedding in the first k epochs after epoch 0, minus that in the last k.

    It was published as the discrepancy of the displacement, but it reads another signal and so has
    its own key. Its sign is that of ``msd_discrepancy``, a hypothesis that the published data do
    not support: on CIFAR-10, Spearman's correlation of the raw value with forgetting counts is
    +0.041, which is none.

    Args:
        feature_norm: Signal ``feature_norm``, one row per epoch. The first row is not read, so the
            epochs are those of ``msd_discrepancy``.
        seen: Which samples were evaluated in which epoch; all, if left out.
        k: Number of epochs at each end.
        ratio: Whether to divide the early mean by the late mean instead of subtracting.

    Returns:
        One value per sample, in squared units of the embedding or, as a ratio, without unit; NaN
        with fewer than 2k epochs that were seen and are not NaN, and for a ratio to 0.

    Raises:
        ValueError: If the arrays disagree in shape or k is below 1.

    Example:
        >>> feature_norm_discrepancy(np.array([[9.0], [5.0], [4.0], [2.0], [1.0]]), k=2).tolist()
        [3.0]

    References:
        Published as "MSD discrepancy" in Natifick/Unsupervisely-Hard, whose
        partially_noised_dataset.ipynb starts one epoch too late.
    """
    seen = seen_entries(feature_norm, seen)
    return _early_to_late(feature_norm[1:], seen[1:], k, ratio=ratio)


@metric(
    family="loss-based",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="early minus late gradient norm of the loss in the pixels",
    paper=_SOURCE,
    variants=_RATIO,
    signal_variants=LGN_VARIANTS,
)
def lgn_discrepancy(
    lgn: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
    *,
    k: int = 5,
    ratio: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Mean loss gradient norm in the first k scored epochs, minus the mean in the last k.

    High is taken to be hard: high values in the source's published column go with more forgetting
    (Spearman's correlation +0.209 on CIFAR-10). That column cannot be derived from anything
    published, so the sign is a hypothesis.

    Args:
        lgn: Signal ``lgn``, one row per scored epoch, including the first.
        seen: Which samples were scored in which epoch; all, if left out.
        k: Number of epochs at each end.
        ratio: Whether to divide the early mean by the late mean instead of subtracting. The ratio
            does not depend on the scale of the loss, which grows in training.

    Returns:
        One value per sample, in units of the gradient or, as a ratio, without unit; NaN with fewer
        than 2k epochs that were seen and are not NaN, and for a ratio to 0.

    Raises:
        ValueError: If the arrays disagree in shape or k is below 1.

    Example:
        >>> lgn_discrepancy(np.array([[5.0], [4.0], [2.0], [1.0]]), k=2).tolist()
        [3.0]

    References:
        Defined in Natifick/Unsupervisely-Hard, loss_experiment.ipynb, whose function ignores its
        argument and returns the discrepancy of the displacement. Ours follows the definition.
    """
    return _early_to_late(lgn, seen_entries(lgn, seen), k, ratio=ratio)


def _early_to_late(
    values: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"],
    k: int,
    *,
    ratio: bool,
) -> Float64[np.ndarray, " samples"]:
    """Difference or ratio of the means of each sample's first and last k values."""
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    defined = seen & ~np.isnan(values)
    position, count = defined.cumsum(axis=0, dtype=np.int32), defined.sum(axis=0)
    early = mean_seen(values, defined & (position <= k))
    late = mean_seen(values, defined & (position > count - k))
    if ratio:
        difference = np.divide(early, late, out=np.full(len(count), np.nan), where=late != 0)
    else:
        with np.errstate(invalid="ignore"):
            difference = early - late
    return np.where(count >= 2 * k, difference, np.nan)
