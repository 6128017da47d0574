"""Data maps: confidence, variability, correctness, and aleatoric uncertainty."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from hardness.metrics.history import answers, mean_seen, refuse_percent, seen_entries, std_seen
from hardness.metrics.registry import metric

SWAYAMDIPTA = "Swayamdipta et al., EMNLP 2020"


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="mean probability of the label",
    paper=SWAYAMDIPTA,
    train_variant=True,
)
def cartography_confidence(
    p_label: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    burn_out: int | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Confidence: mean over epochs of the probability of the label.

    Low is hard: the network comes to believe the label late or never.

    Args:
        p_label: Signal ``p_label``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.
        burn_out: Number of first epochs to use; all, if left out.

    Returns:
        One value per sample in 0 to 1; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape or hold percent.

    Example:
        >>> cartography_confidence(np.array([[0.5, 0.25], [1.0, 0.25]])).tolist()
        [0.75, 0.25]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py, whose
        probabilities come from the training step, as in ``cartography_confidence.train``.
    """
    p_label, seen = _first_epochs(p_label, seen, burn_out)
    refuse_percent(p_label, seen)
    return mean_seen(p_label, seen)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    measures="ambiguity",
    summary="standard deviation of the probability of the label",
    paper=SWAYAMDIPTA,
    train_variant=True,
)
def cartography_variability(
    p_label: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    burn_out: int | None = None,
    active_bias: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Variability: population standard deviation over epochs of the probability of the label.

    High is ambiguous: the network changes its mind. The hardest samples are stably wrong and score
    low, so this is no score of mislabeling.

    Args:
        p_label: Signal ``p_label``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.
        burn_out: Number of first epochs to use; all, if left out.
        active_bias: Whether to widen the spread to ``sqrt(var + var**2 / (n - 1))`` for n epochs
            seen, as for an interval of the variance. The order of samples seen equally often stays
            the same.

    Returns:
        One value per sample in 0 to 0.5, or to 0.56 with ``active_bias``; NaN where seen less than
        twice.

    Raises:
        ValueError: If the arrays disagree in shape or hold percent.

    Example:
        >>> cartography_variability(np.array([[0.5, 0.25], [1.0, 0.25]])).tolist()
        [0.25, 0.0]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py, except for a
        single epoch, where that code gives 0. Its include_ci is ``active_bias``, after Chang et
        al., "Active Bias", NeurIPS 2017.
    """
    p_label, seen = _first_epochs(p_label, seen, burn_out)
    refuse_percent(p_label, seen)
    spread = std_seen(p_label, seen)
    if not active_bias:
        return spread
    variance = spread**2
    return np.sqrt(variance + variance**2 / np.maximum(seen.sum(axis=0) - 1, 1))


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="number of epochs in which the sample is correct",
    paper=SWAYAMDIPTA,
    train_variant=True,
    variants={"share": {"share": True}},
)
def cartography_correctness(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    burn_out: int | None = None,
    share: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Correctness: number of epochs in which a sample is classified as its label.

    Low is hard: the sample is learned late, or not at all.

    Args:
        correct: Signal ``correct``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.
        burn_out: Number of first epochs to use; all, if left out.
        share: Whether to divide by the number of epochs in which the sample was seen.

    Returns:
        One count per sample from 0 to the number of epochs, or a share; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape or ``correct`` holds other values than 0 and 1.

    Example:
        >>> cartography_correctness(np.array([[True, False], [True, True]])).tolist()
        [2.0, 1.0]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py. Data-IQ and
        H-CAT count a label probability above one half instead, which misses labels that win with
        less.
    """
    correct, seen = answers(*_first_epochs(correct, seen, burn_out))
    if share:
        return mean_seen(correct, seen)
    count = (correct & seen).sum(axis=0, dtype=np.float64)
    return np.where(seen.any(axis=0), count, np.nan)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    measures="ambiguity",
    summary="mean of p (1 - p) for the label's probability p",
    paper="Seedat et al., NeurIPS 2022",
)
def data_iq_aleatoric(
    p_label: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Aleatoric uncertainty: mean over epochs of ``p (1 - p)``, p the probability of the label.

    High is ambiguous: the label stays as likely as not. A sample scores as low as an easy one if
    the network is sure that its label is wrong, so this is no score of mislabeling.

    Args:
        p_label: Signal ``p_label``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One value per sample in 0 to 0.25; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape or hold percent.

    Example:
        >>> data_iq_aleatoric(np.array([[0.5, 0.0], [1.0, 0.0]])).tolist()
        [0.125, 0.0]

    References:
        Seedat et al., "Data-IQ: Characterizing subgroups with heterogeneous outcomes in tabular
        data", NeurIPS 2022. Agrees with seedatnabeel/Data-IQ, dataiq_class.py, whose network must
        return probabilities. Its confidence is ``cartography_confidence``.
    """
    seen = seen_entries(p_label, seen)
    refuse_percent(p_label, seen)
    p = p_label.astype(np.float64)
    return mean_seen(p * (1.0 - p), seen)


def _first_epochs(
    values: np.ndarray, seen: np.ndarray | None, burn_out: int | None
) -> tuple[np.ndarray, Bool[np.ndarray, "epochs samples"]]:
    """The first ``burn_out`` epochs, and which of their entries were seen."""
    if burn_out is not None and burn_out < 1:
        raise ValueError(f"expected burn_out of at least 1 epoch; got {burn_out}")
    seen = seen_entries(values, seen)
    return values[:burn_out], seen[:burn_out]
