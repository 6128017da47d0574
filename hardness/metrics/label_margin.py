"""How far the label's logit stays ahead of the others."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries
from hardness.metrics.registry import metric


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="mean lead of the label's logit over the largest other",
    paper="Pleiss et al., NeurIPS 2020",
    train_variant=True,
)
def aum(
    label_margin: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Area under the margin: mean over epochs of the labeled logit minus the largest other logit.

    Low is hard: for a mislabeled sample the true class outvotes the label, so the margin stays
    negative.

    Args:
        label_margin: Signal of that name, in logits, one row per epoch; those before the first
            decay of the learning rate for the authors' protocol.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One raw score per sample, in logit units, unbounded; NaN where never seen and with a single
        class.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> aum(np.array([[1.0, -2.0], [3.0, -1.0]])).tolist()
        [2.0, -1.5]

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking",
        NeurIPS 2020. Agrees with asappresearch/aum, which fails on a batch of one. Like it, divides
        by the number of epochs in which the sample was seen.
    """
    return mean_seen(label_margin, seen_entries(label_margin, seen))
