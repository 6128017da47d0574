"""What a sample's history loses between the first epochs of training and the last."""

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
    summary="early less late movement of the embedding",
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
    """Mean displacement in the first k epochs that have one, less the mean in the last k.

    Low is taken to be hard: what is learned fast moves much at first and comes to rest. A
    hypothesis, the source's own argument; no measurement has been published.

    Args:
        msd: Signal of that name, in row e the displacement into epoch e. The first row is undefined
            and not read, so that the first epochs are 1 to k.
        seen: Which samples were evaluated in which epoch; all, if left out.
        k: Epochs at each end.
        ratio: The first mean over the last instead of less it.

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
    summary="early less late mean square of the embedding",
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
    """Mean square of the embedding in the first k epochs after epoch 0, less that in the last k.

    The quantity that was published as the discrepancy of the displacement, under a key of its own
    since it reads another signal. Its sign is that of ``msd_discrepancy``, for which the source
    took it: a hypothesis that its data do not bear out (Spearman's correlation of the raw value
    with the number of times a sample is forgotten is +0.041 on CIFAR-10, which is none).

    Args:
        feature_norm: Signal of that name, one row per epoch. The first row is not read, so that
            the epochs are those of ``msd_discrepancy``.
        seen: Which samples were evaluated in which epoch; all, if left out.
        k: Epochs at each end.
        ratio: The first mean over the last instead of less it.

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
    summary="early less late gradient of the loss in the pixels",
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
    """Mean loss gradient norm in the first k epochs that were scored, less the mean in the last k.

    High is taken to be hard. The source's published column goes with more forgetting (Spearman's
    correlation +0.209 on CIFAR-10), but nothing that is published gives that column back, so the
    sign is a hypothesis.

    Args:
        lgn: Signal of that name, one row for each epoch that was scored, the first one included.
        seen: Which samples were scored in which epoch; all, if left out.
        k: Epochs at each end.
        ratio: The first mean over the last instead of less it; indifferent to the scale of the
            loss, which grows in training.

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
        argument and returns the discrepancy of the displacement. Follows the definition.
    """
    return _early_to_late(lgn, seen_entries(lgn, seen), k, ratio=ratio)


def _early_to_late(
    values: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"],
    k: int,
    *,
    ratio: bool,
) -> Float64[np.ndarray, " samples"]:
    """Each sample's own first and last k values, which do not overlap."""
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    defined = seen & ~np.isnan(values)
    place, count = defined.cumsum(axis=0, dtype=np.int32), defined.sum(axis=0)
    early = mean_seen(values, defined & (place <= k))
    late = mean_seen(values, defined & (place > count - k))
    if ratio:
        difference = np.divide(early, late, out=np.full(len(count), np.nan), where=late != 0)
    else:
        with np.errstate(invalid="ignore"):
            difference = early - late
    return np.where(count >= 2 * k, difference, np.nan)
