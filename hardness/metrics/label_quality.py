"""Agreement of out-of-sample probabilities with the given label."""

import numpy as np
from jaxtyping import Float, Float64, Integer

from hardness.metrics.axes import check_labels
from hardness.metrics.history import refuse_percent
from hardness.metrics.registry import metric

_INPUTS = {"probs": "holdout_probs", "labels": "labels"}
_ADJUSTED = {"adjusted": {"adjusted": True}}
# Both are cleanlab's: the threshold of a class without labels, and the least of the others.
_THRESHOLD_WITHOUT_LABELS = 2.0
_LEAST_THRESHOLD = 2e-6


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    signals=_INPUTS,
    summary="out-of-fold probability of the label",
    paper="Northcutt et al., JAIR 2021",
    variants=_ADJUSTED,
)
def label_quality_self_confidence(
    probs: Float[np.ndarray, "samples classes"],
    labels: Integer[np.ndarray, " samples"],
    *,
    adjusted: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Probability of the given label under a model that was not trained on the sample.

    Low is hard: other samples speak against this label. In-sample probabilities would give the
    confidence of the last epoch, which is high for memorized samples too.

    Args:
        probs: Snapshot ``holdout_probs``, out-of-fold probabilities.
        labels: Given class per sample.
        adjusted: Whether to correct for imbalanced classes: subtract from each class's
            probabilities their mean over the samples of that label, then shift and scale to a sum
            of 1. A score then depends on the other samples.

    Returns:
        One value per sample in 0 to 1; NaN for a row with a NaN.

    Raises:
        ValueError: If the arrays disagree in length, a label is not a class, or ``probs`` are
            percent.

    Example:
        >>> probs = np.array([[0.75, 0.25], [0.5, 0.5]])
        >>> label_quality_self_confidence(probs, np.array([0, 1])).tolist()
        [0.75, 0.5]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
        JAIR 2021. Agrees with cleanlab's get_label_quality_scores, method self_confidence, with
        and without adjust_pred_probs.
    """
    scores, own = _scores_and_own(probs, labels, adjusted=adjusted)
    return np.where(np.isnan(scores).any(axis=1), np.nan, own)


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    signals=_INPUTS,
    summary="out-of-fold probability of the label minus that of the largest other class",
    paper="Northcutt et al., JAIR 2021",
    variants=_ADJUSTED,
)
def label_quality_normalized_margin(
    probs: Float[np.ndarray, "samples classes"],
    labels: Integer[np.ndarray, " samples"],
    *,
    adjusted: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Probability of the given label minus that of the largest other class, mapped to 0 to 1.

    ``(p_y - max_{c != y} p_c + 1) / 2``. Low is hard: another class clearly fits better.

    Args:
        probs: Snapshot ``holdout_probs``, out-of-fold probabilities.
        labels: Given class per sample.
        adjusted: Whether to correct for imbalanced classes, as in
            ``label_quality_self_confidence``.

    Returns:
        One value per sample in 0 to 1; NaN for a row with a NaN, and with a single class.

    Raises:
        ValueError: If the arrays disagree in length, a label is not a class, or ``probs`` are
            percent.

    Example:
        >>> probs = np.array([[0.75, 0.25], [0.5, 0.5]])
        >>> label_quality_normalized_margin(probs, np.array([0, 1])).tolist()
        [0.75, 0.5]

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
        JAIR 2021. Agrees with cleanlab's get_label_quality_scores, method normalized_margin, with
        and without adjust_pred_probs; with a single class cleanlab fails.
    """
    scores, own = _scores_and_own(probs, labels, adjusted=adjusted)
    if scores.shape[1] == 1:
        return np.full(len(scores), np.nan)
    others = scores.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    margin = (own - others.max(axis=1) + 1) / 2
    return np.where(np.isnan(scores).any(axis=1), np.nan, margin)


def _scores_and_own(
    probs: Float[np.ndarray, "samples classes"],
    labels: Integer[np.ndarray, " labels"],
    *,
    adjusted: bool,
) -> tuple[Float64[np.ndarray, "samples classes"], Float64[np.ndarray, " samples"]]:
    """Probabilities in float64, adjusted if asked for, and those of the labels."""
    samples, classes = probs.shape
    check_labels(labels, samples)
    # NumPy would not refuse a negative label: it counts classes from the end.
    if ((labels < 0) | (labels >= classes)).any():
        raise ValueError(
            f"expected labels in 0 to {classes - 1}; got {labels.min()} to {labels.max()}"
        )
    refuse_percent(probs)
    scores = probs.astype(np.float64)
    if adjusted:
        scores = _minus_thresholds(scores, labels)
    return scores, scores[np.arange(samples), labels]


def _minus_thresholds(
    probs: Float64[np.ndarray, "samples classes"], labels: Integer[np.ndarray, " samples"]
) -> Float64[np.ndarray, "samples classes"]:
    """Subtract each class's mean self-confidence, add the largest of them, scale to a sum of 1."""
    complete = ~np.isnan(probs).any(axis=1)
    thresholds = np.full(probs.shape[1], _THRESHOLD_WITHOUT_LABELS)
    for label in np.unique(labels[complete]):
        mean = probs[:, label][complete & (labels == label)].mean()
        thresholds[label] = max(mean, _LEAST_THRESHOLD)
    moved = probs - thresholds + thresholds.max()
    return moved / moved.sum(axis=1, keepdims=True)
