"""The three axes of a data map."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries, std_seen
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
) -> Float64[np.ndarray, " samples"]:
    """Confidence: mean over epochs of the probability of the label.

    Low is hard: the network does not come to believe the label, or comes to late.

    Args:
        p_label: Signal of that name, one row per epoch; the first rows alone for a burn-out.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One value per sample in 0 to 1; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> cartography_confidence(np.array([[0.5, 0.25], [1.0, 0.25]])).tolist()
        [0.75, 0.25]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py, whose
        probabilities come from the training step: ``cartography_confidence.train``.
    """
    return mean_seen(p_label, seen_entries(p_label, seen))


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    measures="ambiguity",
    summary="spread of the probability of the label",
    paper=SWAYAMDIPTA,
    train_variant=True,
)
def cartography_variability(
    p_label: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Variability: population standard deviation over epochs of the probability of the label.

    High is ambiguous: the network changes its mind. The hardest samples are stably wrong, hence
    low, so that this is no score of mislabeling.

    Args:
        p_label: Signal of that name, one row per epoch; the first rows alone for a burn-out.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One value per sample in 0 to 0.5; NaN where seen less than twice.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> cartography_variability(np.array([[0.5, 0.25], [1.0, 0.25]])).tolist()
        [0.25, 0.0]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py, without its
        optional correction for few epochs and save for a single epoch, which there gives 0.
    """
    return std_seen(p_label, seen_entries(p_label, seen))


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="number of epochs in which the sample is correct",
    paper=SWAYAMDIPTA,
    train_variant=True,
)
def cartography_correctness(
    correct: Bool[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Correctness: number of epochs in which a sample is classified as its label.

    Low is hard: the sample is learned late, or not at all.

    Args:
        correct: Signal of that name, one row per epoch; the first rows alone for a burn-out.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One count per sample from 0 to the number of epochs; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> cartography_correctness(np.array([[True, False], [True, True]])).tolist()
        [2.0, 1.0]

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training
        Dynamics", EMNLP 2020. Agrees with allenai/cartography, train_dy_filtering.py. Data-IQ and
        H-CAT count a label probability above one half instead, which misses samples that win with
        less.
    """
    seen = seen_entries(correct, seen)
    count = (correct & seen).sum(axis=0, dtype=np.float64)
    return np.where(seen.any(axis=0), count, np.nan)
