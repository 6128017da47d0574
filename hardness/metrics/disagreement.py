"""Uncertainty from several predictions of one sample: dropout passes, or the runs of a sweep."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import MEAN, last_or_mean
from hardness.metrics.registry import metric

GAL = "Gal and Ghahramani, ICML 2016"
HOULSBY = "Houlsby et al., 2011; Gal, Islam and Ghahramani, ICML 2017"
MEMBERS = 3


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="entropy of the mean prediction over dropout passes",
    paper=GAL,
    variants=MEAN,
)
def mc_dropout_entropy(
    mc_dropout_entropy: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Entropy in nats of the mean of 20 predictions with dropout on and batch statistics fixed.

    High is hard: each prediction is undecided, or they contradict each other.

    Args:
        mc_dropout_entropy: Signal ``mc_dropout_entropy``, one row per scored epoch; NaN for a
            network without dropout.
        seen: Which samples were scored in which of these epochs; all, if left out.
        over: ``last`` for the last of these epochs, ``all`` for their mean.

    Returns:
        One value per sample, from 0 to the logarithm of the number of classes; NaN where not seen
        in those epochs, and for a network without dropout.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> mc_dropout_entropy(np.array([[0.7, 0.2], [0.5, 0.1]])).tolist()
        [0.5, 0.1]

    References:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016. As in OATML/RHO-Loss,
        only dropout layers are put into training mode; H-CAT's agreement score puts the whole
        network into it.
    """
    return last_or_mean(mc_dropout_entropy, seen, over)


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="disagreement between dropout passes",
    paper=HOULSBY,
    variants=MEAN,
)
def mc_dropout_bald(
    mc_dropout_bald: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """BALD: entropy of the mean of 20 dropout predictions minus the mean of their entropies.

    High is hard: each prediction is sure, but they contradict each other.

    Args:
        mc_dropout_bald: Signal ``mc_dropout_bald``, one row per scored epoch; NaN for a network
            without dropout.
        seen: Which samples were scored in which of these epochs; all, if left out.
        over: ``last`` for the last of these epochs, ``all`` for their mean.

    Returns:
        One value per sample in nats, from 0; NaN where not seen in those epochs, and for a network
        without dropout.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> mc_dropout_bald(np.array([[0.3, 0.1], [0.2, 0.0]])).tolist()
        [0.2, 0.0]

    References:
        Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", 2011;
        Gal, Islam and Ghahramani, "Deep Bayesian Active Learning with Image Data", ICML 2017.
    """
    return last_or_mean(mc_dropout_bald, seen, over)


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    scope="seeds",
    labels_used="none",
    summary="entropy of the mean prediction over the runs of a configuration",
    paper="Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017",
)
def ensemble_entropy(
    logits: Float[np.ndarray, "members samples classes"],
) -> Float64[np.ndarray, " samples"]:
    """Entropy in nats of the mean softmax over the runs of one configuration.

    High is hard: each run is undecided, or the runs contradict each other.

    Args:
        logits: Logits of the last epoch, one member per run, at least three members.

    Returns:
        One value per sample, from 0 to the logarithm of the number of classes; NaN where a member
        has a NaN logit or its largest logit is infinite.

    Raises:
        ValueError: If there are fewer than three members.

    Example:
        >>> sure = np.array([[[9.0, 0.0]], [[9.0, 0.0]], [[9.0, 0.0]]])
        >>> bool(ensemble_entropy(sure)[0] < 0.01)
        True

    References:
        Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty
        Estimation using Deep Ensembles", NeurIPS 2017. Agrees with OATML/RHO-Loss, utils_bald.py.
    """
    from hardness.signals import ensembles as ensemble_signals  # noqa: PLC0415 - loads torch

    return ensemble_signals.mixture_entropy(_log_probs(logits))


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    scope="seeds",
    labels_used="none",
    summary="disagreement between the runs of a configuration",
    paper="Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017; Houlsby et al., 2011",
)
def ensemble_mi(
    logits: Float[np.ndarray, "members samples classes"],
) -> Float64[np.ndarray, " samples"]:
    """Mutual information: entropy of the mean over runs minus the mean of their entropies.

    High is hard: each run is sure, but the runs contradict each other.

    Args:
        logits: Logits of the last epoch, one member per run, at least three members.

    Returns:
        One value per sample in nats, from 0; NaN where a member has a NaN logit or its largest
        logit is infinite.

    Raises:
        ValueError: If there are fewer than three members.

    Example:
        >>> agree = np.array([[[9.0, 0.0]], [[9.0, 0.0]], [[9.0, 0.0]]])
        >>> bool(ensemble_mi(agree)[0] < 1e-12)
        True

    References:
        The papers of ``ensemble_entropy``, and Houlsby et al., 2011. Agrees with OATML/RHO-Loss,
        utils_bald.py.
    """
    from hardness.signals import ensembles as ensemble_signals  # noqa: PLC0415 - loads torch

    return ensemble_signals.mutual_information(_log_probs(logits))


def ensembles(runs: int) -> list[range]:
    """Positions of the runs that form each ensemble.

    The ensembles share no run and have one size, so their values are independent and comparable,
    like those of single runs. There are as many ensembles as can have three members. Runs left over
    stay out; fewer than three runs form no ensemble.

    Args:
        runs: Number of runs of the configuration.

    Example:
        >>> ensembles(5), ensembles(8), ensembles(2)
        ([range(0, 5)], [range(0, 4), range(4, 8)], [])
    """
    count = runs // MEMBERS
    size = runs // count if count else 0
    return [range(first * size, (first + 1) * size) for first in range(count)]


def _log_probs(
    logits: Float[np.ndarray, "members samples classes"],
) -> Float64[np.ndarray, "members samples classes"]:
    if len(logits) < MEMBERS:
        raise ValueError(f"expected at least {MEMBERS} members; got {len(logits)}")
    from hardness.signals.blocks import as_tensor  # noqa: PLC0415 - loads torch

    return as_tensor(logits).double().log_softmax(dim=2).numpy()
