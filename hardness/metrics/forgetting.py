"""When a sample is learned, and how often it is forgotten again."""

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from hardness.metrics.axes import checked_axes
from hardness.metrics.history import answers, last_seen
from hardness.metrics.registry import metric

TONEVA = "Toneva et al., ICLR 2019"


@checked_axes
def never_learned(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Bool[np.ndarray, " samples"]:
    """Whether a sample was seen but never classified as its label.

    Example:
        >>> never_learned(np.array([[True, False], [False, False]])).tolist()
        [False, True]
    """
    correct, seen = answers(correct, seen)
    return seen.any(axis=0) & ~(correct & seen).any(axis=0)


@checked_axes
def censored(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Bool[np.ndarray, " samples"]:
    """Whether a sample was wrong when last seen, so training ended before it was learned for good.

    Example:
        >>> censored(np.array([[True, False], [False, True]])).tolist()
        [True, False]
    """
    correct, seen = answers(correct, seen)
    last = last_seen(seen)
    return (last >= 0) & (last == last_seen(seen & ~correct))


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="how often the sample goes from correct to wrong",
    paper=TONEVA,
    flag=never_learned,
    train_variant=True,
)
def forgetting_events(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Forgetting events: how often a sample turns from correct to wrong.

    High is hard: few other samples support what the network keeps forgetting, or they contradict
    it. A sample that is never learned gets the number of epochs, more than any count.

    Args:
        correct: Signal ``correct``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out. A turn is counted
            between consecutive epochs in which the sample was seen.

    Returns:
        One count per sample, from 0 to half the epochs, or the number of epochs if never correct;
        NaN where never seen. Compare only runs with equally many epochs, which limit the count.

    Raises:
        ValueError: If the arrays disagree in shape or ``correct`` holds other values than 0 and 1.

    Example:
        >>> correct = np.array([[True, False, True], [False, False, True], [True, False, True]])
        >>> forgetting_events(correct).tolist()
        [1.0, 3.0, 0.0]

    References:
        Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
        Learning", ICLR 2019. Agrees with mtoneva/example_forgetting,
        order_examples_by_forgetting.py, which sums over runs where we average. Samples that are
        never learned get 0 in H-CAT, infinity in data_diet, 1000 in cartography.
    """
    correct, seen = answers(correct, seen)
    count = np.zeros(correct.shape[1])
    before = np.zeros(correct.shape[1], dtype=bool)
    for now, here in zip(correct, seen, strict=True):
        count += before & ~now & here
        before = np.where(here, now, before)
    count[never_learned(correct, seen)] = len(correct)
    return np.where(seen.any(axis=0), count, np.nan)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="first epoch at which the sample is correct",
    paper=TONEVA,
    flag=never_learned,
    train_variant=True,
)
def learned_first_epoch(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """First epoch, counted from 0, at which a sample is classified as its label.

    High is hard: simple patterns are learned first. The metric is weak alone, since most samples
    are learned in the first few epochs.

    Args:
        correct: Signal ``correct``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One epoch per sample, the number of epochs if never correct; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape or ``correct`` holds other values than 0 and 1.

    Example:
        >>> learned_first_epoch(np.array([[True, False, False], [False, True, False]])).tolist()
        [0.0, 1.0, 2.0]

    References:
        Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
        Learning", ICLR 2019. For samples that are never learned, mtoneva/example_forgetting gives
        NaN, and first_learn of devinkwok/nn_example_difficulty the number of epochs, as here.
    """
    correct, seen = answers(correct, seen)
    learned = correct & seen
    first = np.where(learned.any(axis=0), np.argmax(learned, axis=0), len(correct))
    return np.where(seen.any(axis=0), first, np.nan)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="epoch from which the sample stays correct",
    paper="Maini et al., NeurIPS 2022",
    flag=censored,
)
def fslt(
    correct: Shaped[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """First-split learning time: the epoch, counted from 1, from which a sample is always correct.

    High is hard: such samples are learned last, or only once the network memorizes.

    Args:
        correct: Signal ``correct``, one row per epoch.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One epoch per sample: 1 if always correct, else two more than the 0-based epoch of the last
        wrong answer. It is the number of epochs plus one if wrong when last seen (``censored``),
        even if that was before the last epoch; NaN where never seen.

    Raises:
        ValueError: If the arrays disagree in shape or ``correct`` holds other values than 0 and 1.

    Example:
        >>> correct = np.array([[True, False, True], [True, True, False]])
        >>> fslt(correct).tolist()
        [1.0, 2.0, 3.0]

    References:
        Maini et al., "Characterizing Datapoints via Second-Split Forgetting", NeurIPS 2022. Agrees
        with pratyushmaini/ssft, get_first_epoch_where_we_learn_forever; that code evaluates in
        training mode and stops early.
    """
    correct, seen = answers(correct, seen)
    learned_for_good = last_seen(seen & ~correct) + 2.0
    learned_for_good[censored(correct, seen)] = len(correct) + 1
    return np.where(seen.any(axis=0), learned_for_good, np.nan)
