"""Uncertainty of the predicted distribution, which needs no label to score."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import MEAN, last_or_mean
from hardness.metrics.registry import metric


@metric(
    family="uncertainty",
    sign=-1,
    sign_origin="published",
    labels_used="none",
    summary="largest softmax probability",
    paper="Hendrycks and Gimpel, ICLR 2017",
    last_epoch=True,
    variants=MEAN,
)
def max_softmax(
    max_softmax: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Largest softmax probability, in the last epoch.

    Low is hard: no class wins clearly.

    Args:
        max_softmax: Signal ``max_softmax``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One value per sample, from one over the number of classes to 1; NaN where not seen in those
        epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> max_softmax(np.array([[0.5, 0.75], [1.0, 0.25]])).tolist()
        [1.0, 0.25]

    References:
        Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
        Examples in Neural Networks", ICLR 2017, and their code.
    """
    return last_or_mean(max_softmax, seen, over)


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="entropy of the softmax",
    paper="Shannon, 1948; Settles, 2009",
    last_epoch=True,
    variants=MEAN,
)
def predictive_entropy(
    entropy: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Shannon entropy of the softmax in nats, in the last epoch.

    High is hard: the probability is spread over several classes.

    Args:
        entropy: Signal ``entropy``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One value per sample, from 0 to the logarithm of the number of classes; NaN where not seen
        in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> predictive_entropy(np.array([[0.5, 0.25], [0.0, 0.5]]), over="all").tolist()
        [0.25, 0.375]

    References:
        Shannon, "A Mathematical Theory of Communication", 1948; Settles, "Active Learning
        Literature Survey", 2009, for choosing samples. It is the entropy of one run; H-CAT's
        entropy over epochs is another quantity.
    """
    return last_or_mean(entropy, seen, over)


@metric(
    family="uncertainty",
    sign=-1,
    sign_origin="published",
    labels_used="none",
    summary="gap between the two largest softmax probabilities",
    paper="Scheffer et al., IDA 2001",
    last_epoch=True,
    variants=MEAN,
)
def margin(
    margin: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Largest minus second largest softmax probability, in the last epoch.

    Low is hard: two classes compete. Unlike ``aum``, it reads no label and compares probabilities,
    not logits.

    Args:
        margin: Signal ``margin``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One value per sample in 0 to 1; NaN where not seen in those epochs and with a single class.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> margin(np.array([[0.5, 0.75], [1.0, 0.25]])).tolist()
        [1.0, 0.25]

    References:
        Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA
        2001. cleanlab's margin compares the label with the largest other class.
    """
    return last_or_mean(margin, seen, over)


@metric(
    family="uncertainty",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="free energy of the logits",
    paper="Liu et al., NeurIPS 2020",
    last_epoch=True,
    variants=MEAN,
)
def energy(
    energy: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Free energy: minus the log-sum-exp of the logits, in the last epoch.

    High is hard: no logit is large, as for samples from outside the distribution.

    Args:
        energy: Signal ``energy``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One value per sample, in logit units, unbounded; NaN where not seen in those epochs. A
        constant added to all logits changes it: compare within a run only.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> energy(np.array([[-3.0, -1.0], [-5.0, -2.0]])).tolist()
        [-5.0, -2.0]

    References:
        Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020. It is the paper's
        E(x), as in wetliu/energy_ood, test.py; deeplearning-wisc/gradnorm_ood returns the negative.
    """
    return last_or_mean(energy, seen, over)
