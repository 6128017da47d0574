"""Lead of the label's logit over the other logits."""

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
        label_margin: Signal ``label_margin``, in logits, one row per epoch.
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
        NeurIPS 2020. Agrees with asappresearch/aum, which fails on a batch of one. Both divide by
        the number of epochs in which the sample was seen. The authors train for it at a constant
        learning rate; see ``aum_pre_decay``.
    """
    return mean_seen(label_margin, seen_entries(label_margin, seen))


@metric(
    family="supervised",
    sign=-1,
    sign_origin="published",
    labels_used="own",
    summary="aum over the epochs before the learning rate first falls",
    paper="Pleiss et al., NeurIPS 2020",
    train_variant=True,
)
def aum_pre_decay(
    label_margin: Float[np.ndarray, "epochs samples"],
    lr: Float[np.ndarray, " epochs"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Area under the margin over the epochs before the first decay of the learning rate.

    Low is hard, as for ``aum``. After the decay the network memorizes, and the margins of
    mislabeled samples rise like the others. The last epoch that counts is the one before the rate
    first falls. At a constant rate all epochs count, after a warm-up those up to the peak. Under a
    cosine, which falls from the start, only the first counts.

    Args:
        label_margin: Signal ``label_margin``, in logits, one row per epoch.
        lr: Learning rate at the first step of each epoch, as the epochs' summaries hold it.
        seen: Which samples were presented in which epoch; all, if left out.

    Returns:
        One raw score per sample, in logit units, unbounded; NaN where not seen in those epochs,
        with a single class, and for all samples if the rate of an epoch is unknown (NaN), as in
        runs that did not record it.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> margins = np.array([[1.0, -2.0], [3.0, -1.0], [9.0, 9.0]])
        >>> aum_pre_decay(margins, np.array([0.1, 0.1, 0.01])).tolist()
        [2.0, -1.5]

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking",
        NeurIPS 2020, who train for it at a constant rate, or up to the first drop of the rate.
    """
    seen = seen_entries(label_margin, seen)
    if lr.shape != (len(label_margin),):
        raise ValueError(f"expected lr of {len(label_margin)} epochs; got shape {lr.shape}")
    if np.isnan(lr).any():
        return np.full(label_margin.shape[1], np.nan)
    falls = np.append(np.diff(lr) < 0, True)
    before = slice(int(np.argmax(falls)) + 1)
    return mean_seen(label_margin[before], seen[before])
