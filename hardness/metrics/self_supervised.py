"""What the loss of training without labels says about a sample, and the gradients of that loss."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import MEAN, last_or_mean
from hardness.metrics.registry import metric


@metric(
    family="loss-based",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="contrastive loss of the sample's two views",
    paper="Chen et al., ICML 2020; Zhou et al., ICML 2022",
    variants=MEAN,
)
def ssl_loss_ntxent(
    ssl_loss_ntxent: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """NT-Xent of a sample's two views among the others of a fixed batch, in the last scored epoch.

    High is hard: the views look like those of other samples, as for rare samples and for
    near-duplicates, which inflate each other's loss. Each value is a mean over two pairs of views,
    from projections in eval mode, whatever loss was trained.

    Args:
        ssl_loss_ntxent: Signal ``ssl_loss_ntxent``, in nats, one row per scored epoch.
        seen: Which samples were scored in which epoch; all, if left out.
        over: ``last`` for the last scored epoch, ``all`` for the mean over them.

    Returns:
        One value per sample, from 0; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> ssl_loss_ntxent(np.array([[5.0, 5.5], [2.0, 4.5]])).tolist()
        [2.0, 4.5]

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML
        2020. That a sample's loss over training marks rare and hard samples: Zhou et al.,
        "Contrastive Learning with Boosted Memorization", ICML 2022. Agrees with lightly's
        NTXentLoss: ``hardness.signals.views.ntxent_of_samples``.
    """
    return last_or_mean(ssl_loss_ntxent, seen, over)


@metric(
    family="loss-based",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="the sample's share in the Barlow Twins loss of its batch",
    paper="Zbontar et al., ICML 2021",
    signal_variants={"alignment": {"barlow_influence": "barlow_alignment"}},
)
def ssl_loss_barlow(
    barlow_influence: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """A sample's share in the Barlow Twins loss of a fixed batch, in the last scored epoch.

    High is taken to be hard: the batch's cross-correlation would be nearer to the identity without
    the sample. This is a hypothesis; only the batch's loss is published.

    The default is the loss's derivative with respect to the sample's weight in the
    cross-correlation. It sums to 0 over a batch. The variant ``alignment`` is the squared distance
    of the standardised views, whose mean is the loss's linear invariance term. Each value is a mean
    over two pairs of views, from projections in eval mode, whatever loss was trained.

    Args:
        barlow_influence: Signal ``barlow_influence``, one row per scored epoch; the variant reads
            ``barlow_alignment``.
        seen: Which samples were scored in which epoch; all, if left out.

    Returns:
        One value per sample, of either sign, from 0 for the variant; NaN where not seen in the last
        scored epoch.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> ssl_loss_barlow(np.array([[0.5, -0.5], [-0.25, 0.25]])).tolist()
        [-0.25, 0.25]

    References:
        Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML
        2021, for the total, which agrees with lightly 1.6. As in the paper, each view is
        standardised by itself; lightly 1.5.1 standardised both together and gets another total. The
        shares of samples are derived here: ``hardness.signals.views.barlow_influence``, compared
        there with leaving a sample out, and ``barlow_alignment``.
    """
    return last_or_mean(barlow_influence, seen, "last")


@metric(
    family="loss-based",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="gradient norm of the sample's own loss in the last projection layer",
    paper="Paul et al., NeurIPS 2021",
    signal_variants={"l1": {"ssl_param_grad_norm": "ssl_param_grad_norm.l1"}},
)
def ssl_param_grad_norm(
    ssl_param_grad_norm: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Gradient norm of a sample's own loss in the weight of the last projection layer.

    High is taken to be hard: such samples still move the weights. This is a hypothesis without a
    published original. The own loss is NT-Xent or, under Barlow Twins, the squared distance of the
    standardised views. Other samples' projections are held constant. The two views' gradients are
    summed before the norm.

    Args:
        ssl_param_grad_norm: Signal ``ssl_param_grad_norm``, the 2-norm, one row per scored epoch;
            the variant ``l1`` reads the 1-norm.
        seen: Which samples were scored in which epoch; all, if left out.

    Returns:
        One norm per sample in the last scored epoch, from 0; NaN where not seen there.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> ssl_param_grad_norm(np.array([[4.0, 3.0], [0.5, 1.0]])).tolist()
        [0.5, 1.0]

    References:
        Applies GraNd (Paul et al., NeurIPS 2021) and GradNorm (Huang, Geng and Li, NeurIPS 2021) to
        training without labels. Agrees with autograd on single samples.
    """
    return last_or_mean(ssl_param_grad_norm, seen, "last")


@metric(
    family="loss-based",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    summary="how much one grey level in each pixel can raise the sample's own loss",
    paper="Goodfellow, Shlens and Szegedy, ICLR 2015",
)
def ssl_perturbation_gain(
    ssl_perturbation_gain: Float[np.ndarray, "scored samples"],
    seen: Bool[np.ndarray, "scored samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Rise of a sample's own loss after a step of 1/255 per pixel along its gradient's sign.

    High is taken to be hard: the agreement of the views depends on details. This is a hypothesis
    without a published original. The own loss is that of ``ssl_param_grad_norm``. Both views are
    moved; other samples' projections stay. Mean over two pairs of views.

    Args:
        ssl_perturbation_gain: Signal ``ssl_perturbation_gain``, one row per scored epoch.
        seen: Which samples were scored in which epoch; all, if left out.

    Returns:
        One difference of losses per sample in the last scored epoch, negative only where the loss
        bends within the step; NaN where not seen there.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> ssl_perturbation_gain(np.array([[0.01, 0.2]])).tolist()
        [0.01, 0.2]

    References:
        The step is that of Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial
        Examples", ICLR 2015, on a loss without labels. Pixels are not clipped to their range.
    """
    return last_or_mean(ssl_perturbation_gain, seen, "last")


@metric(
    family="loss-based",
    sign=1,
    sign_origin="published",
    labels_used="none",
    summary="mean squared error of an autoencoder's pixels",
    paper="Hawkins et al., DaWaK 2002",
    variants=MEAN,
)
def reconstruction_error(
    reconstruction_error: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    over: Literal["last", "all"] = "last",
) -> Float64[np.ndarray, " samples"]:
    """Mean over pixels of an autoencoder's squared error on the clean image, in the last epoch.

    High is hard: what is rare in the training set is drawn badly. So are contrast and texture of
    any kind. Read it beside its rank correlations with ``image_entropy`` and ``total_variation``,
    which an agreement table holds if these metrics are asked for.

    Args:
        reconstruction_error: Signal ``reconstruction_error``, of pixels in 0 to 1, one row per
            epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        over: ``last`` for the last epoch, ``all`` for the mean over epochs.

    Returns:
        One value per sample in 0 to 1; NaN where not seen in those epochs.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> reconstruction_error(np.array([[0.2, 0.5], [0.1, 0.3]])).tolist()
        [0.1, 0.3]

    References:
        Hawkins et al., "Outlier Detection Using Replicator Neural Networks", DaWaK 2002, whose
        outlier factor is this mean over attributes.
    """
    return last_or_mean(reconstruction_error, seen, over)
