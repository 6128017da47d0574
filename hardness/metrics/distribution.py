"""Whether a sample looks as if it came from the distribution that was trained on."""

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

    Low is hard: the step of 0.0014 (pixels in 0 to 1) along the gradient's sign raises the
    probability less where the network does not know the image. The variant takes no step.

    Args:
        odin: Signal of that name, one row per epoch in which the pass was made, float64: at this
            temperature all scores lie within a thousandth of one over the number of classes.
        seen: Which samples were scored in which of these; all, if left out.
        over: The last of the epochs, or the mean of all.

    Returns:
        One probability per sample; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> odin(np.array([[0.1001, 0.1004], [0.1002, 0.1008]])).tolist()
        [0.1002, 0.1008]

    References:
        Liang, Li and Srikant, "Enhancing the Reliability of Out-of-Distribution Image Detection in
        Neural Networks", ICLR 2018. The arithmetic and what it agrees with:
        ``hardness.model_signals.odin_from_model``.
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
    """GradNorm: 1-norm of the head's gradient of the distance from the uniform distribution.

    Low is hard: neither a long embedding nor a decided softmax, as for samples from outside the
    distribution.

    Args:
        gradnorm: Signal of that name, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: The last epoch, or the mean of all.

    Returns:
        One norm per sample, from 0, unbounded; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> gradnorm(np.array([[30.0, 1.0], [50.0, 2.0]])).tolist()
        [50.0, 2.0]

    References:
        Huang, Geng and Li, "On the Importance of Gradients for Detecting Distributional Shifts in
        the Wild", NeurIPS 2021. The closed form and what it agrees with:
        ``hardness.signals.logits.gradnorm_from_head``.
    """
    return last_or_mean(gradnorm, seen, over)
