"""Gradient norms of a sample's loss, and how much its input gradient varies over training."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from hardness.metrics.axes import check_labels
from hardness.metrics.history import MEAN, last_or_mean
from hardness.metrics.registry import metric

PAUL = "Paul et al., NeurIPS 2021"
AGARWAL = "Agarwal, D'souza and Hooker, CVPR 2022"


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="norm of the loss's gradient with respect to all parameters",
    paper=PAUL,
)
def grand(
    grand: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """GraNd: norm of the gradient of a sample's loss with respect to all trainable parameters.

    High is hard: such samples still move the weights. It is meant for an early epoch and a mean
    over runs.

    Args:
        grand: Signal ``grand``, one row per scored epoch; the last row counts.
        seen: Which samples were scored in which of these epochs; all, if left out.

    Returns:
        One norm per sample, from 0, unbounded; NaN where not seen in the last of these epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> grand(np.array([[9.0, 8.0], [0.5, 2.0]])).tolist()
        [0.5, 2.0]

    References:
        Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training",
        NeurIPS 2021. Agrees with autograd on single samples, with batch statistics in eval mode.
        The paper's GraNd at initialization came from another checkpoint, through a restoring error
        (Kirsch, 2023). At initialization it follows the input's norm, for which ``image_l2_norm``
        is the control.
    """
    return last_or_mean(grand, seen, "last")


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="norm of the loss's gradient with respect to the linear head",
    paper=PAUL,
    last_epoch=True,
    variants=MEAN,
)
def grand_last_layer(
    grand_last_layer: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """GraNd of the linear head alone, in closed form, in the last epoch.

    High is hard, as for ``grand``. It costs nothing beyond the evaluation pass.

    Args:
        grand_last_layer: Signal ``grand_last_layer``, one row per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One norm per sample, from 0, unbounded; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> grand_last_layer(np.array([[3.0, 1.0], [1.0, 2.0]])).tolist()
        [1.0, 2.0]

    References:
        Paul et al., NeurIPS 2021, for the norm; for the closed form see
        ``hardness.signals.logits.grand_last_layer_from_head``.
    """
    return last_or_mean(grand_last_layer, seen, over)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="spread over training of the input gradient of the label's logit",
    paper=AGARWAL,
    signal_variants={"early": {"vog": "vog.early"}, "late": {"vog": "vog.late"}},
)
def vog(
    vog: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Variance of gradients: spread over checkpoints of the label logit's gradient in the pixels.

    High is hard: the network keeps changing its mind about what matters in the image. Values are
    not relative to the class; see ``vog_class_z``.

    Args:
        vog: Signal ``vog``, one row for the one pass at the end of a run. The variants ``early``
            and ``late`` cover the first or the last third of the checkpoints, each around its own
            mean.
        seen: Which samples were scored in that pass; all, if left out.

    Returns:
        One value per sample, from 0, unbounded; NaN where not seen, and with fewer than two
        checkpoints.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> vog(np.array([[0.5, 2.0]])).tolist()
        [0.5, 2.0]

    References:
        Agarwal, D'souza and Hooker, "Estimating Example Difficulty Using Variance of Gradients",
        CVPR 2022. Uses the logit before the softmax, as chirag126/VOG, imagenet, does; its
        toy_script.py, H-CAT and nn_example_difficulty use the probability, see ``vog_prob``.
    """
    return last_or_mean(vog, seen, "last")


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="spread over training of the input gradient of the label's probability",
    paper=AGARWAL,
)
def vog_prob(
    vog_prob: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Variance of gradients of the label's softmax probability instead of its logit.

    High is hard, as for ``vog``, but the two order samples differently.

    Args:
        vog_prob: Signal ``vog_prob``, one row for the one pass at the end of a run.
        seen: Which samples were scored in that pass; all, if left out.

    Returns:
        One value per sample, from 0; NaN where not seen, and with fewer than two checkpoints.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> vog_prob(np.array([[0.5, 2.0]])).tolist()
        [0.5, 2.0]

    References:
        Agarwal, D'souza and Hooker, CVPR 2022; the quantity of chirag126/VOG, toy_script.py, except
        that gradients there accumulate over epochs.
    """
    return last_or_mean(vog_prob, seen, "last")


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="variance of gradients relative to the class",
    whole=True,
    paper=AGARWAL,
    signals=("vog", "labels"),
    signal_variants={"prob": {"vog": "vog_prob"}},
)
def vog_class_z(
    vog: Float[np.ndarray, "epochs samples"],
    labels: Integer[np.ndarray, " samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Variance of gradients in standard deviations from the mean of the given class.

    High is hard. As in the paper, the class's own level of gradients is removed.

    Args:
        vog: Signal ``vog``, one row for the one pass at the end of a run.
        labels: Labels trained on.
        seen: Which samples were scored in that pass; all, if left out.

    Returns:
        One value per sample, unbounded, of mean 0 and population standard deviation 1 in each
        class, or 0 in a class of equal values; NaN where ``vog`` is, and in a class of one sample,
        which has no spread.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> vog_class_z(np.array([[1.0, 3.0, 5.0, 5.0]]), np.array([0, 0, 1, 1])).tolist()
        [-1.0, 1.0, 0.0, 0.0]

    References:
        Agarwal, D'souza and Hooker, CVPR 2022, section 2. Agrees with chirag126/VOG,
        imagenet/train_visualize_grad.py.
    """
    raw = last_or_mean(vog, seen, "last")
    check_labels(labels, len(raw))
    z = np.full(len(raw), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero((labels == label) & ~np.isnan(raw))
        if len(rows) > 1:
            away = raw[rows] - raw[rows].mean()
            spread = raw[rows].std()
            # Equal values may leave a spread of rounding, which would blow up their differences.
            equal = raw[rows].min() == raw[rows].max()
            z[rows] = 0.0 if equal else away / spread
    return z
