"""Whether a sample looks like the distribution that the network was trained on."""

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
    summary="largest softmax probability at temperature 1000, after a step that raises it",
    paper="Liang et al., ICLR 2018",
    variants=MEAN,
    signal_variants={"unperturbed": {"odin": "odin.unperturbed"}},
)
def odin(
    odin: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """ODIN: largest softmax probability at temperature 1000, after a small step of the pixels.

    Low is hard: a step of 0.0014 per pixel (pixels in 0 to 1) along the gradient's sign raises the
    probability of an unfamiliar image less. The variant ``unperturbed`` takes no step.

    Args:
        odin: Signal ``odin``, one row per scored epoch, in float64: at this temperature all scores
            lie within a thousandth of one over the number of classes.
        seen: Which samples were scored in which of these epochs; all, if left out.
        over: ``last`` for the last of these epochs, ``all`` for their mean.

    Returns:
        One probability per sample; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> odin(np.array([[0.1001, 0.1004], [0.1002, 0.1008]])).tolist()
        [0.1002, 0.1008]

    References:
        Liang, Li and Srikant, "Enhancing the Reliability of Out-of-Distribution Image Detection in
        Neural Networks", ICLR 2018. For the arithmetic and the codes it agrees with, see
        ``hardness.signals.gradients.odin_from_model``.
    """
    return last_or_mean(odin, seen, over)


@metric(
    family="uncertainty",
    sign=-1,
    sign_origin="published",
    labels_used="none",
    summary="gradient norm of the head when every class is the target at once",
    paper="Huang, Geng and Li, NeurIPS 2021",
    last_epoch=True,
    variants=MEAN,
)
def gradnorm(
    gradnorm: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """GradNorm: 1-norm of the head's gradient when every class is the target at once.

    Low is hard: the embedding is short and the softmax undecided, as for samples from outside the
    distribution.

    Args:
        gradnorm: Signal ``gradnorm``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One norm per sample, from 0, unbounded; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> gradnorm(np.array([[30.0, 1.0], [50.0, 2.0]])).tolist()
        [50.0, 2.0]

    References:
        Huang, Geng and Li, "On the Importance of Gradients for Detecting Distributional Shifts in
        the Wild", NeurIPS 2021. For the closed form and the codes it agrees with, see
        ``hardness.signals.logits.gradnorm_from_head``.
    """
    return last_or_mean(gradnorm, seen, over)
