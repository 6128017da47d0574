"""Loss of a sample under a network trained without it, and how much training lowers it."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.history import mean_seen, seen_entries
from hardness.metrics.registry import metric


@metric(
    family="supervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="own",
    measures="utility",
    signals={"loss": "own_loss", "holdout_loss": "holdout_loss"},
    summary="mean loss in training minus the loss of a model trained without the sample",
    paper="Mindermann et al., ICML 2022",
    variants={"e5": {"epoch": 4}},
)
def rho_loss(
    loss: Float[np.ndarray, "epochs samples"],
    holdout_loss: Float[np.ndarray, " samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    epoch: int | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Reducible holdout loss: a sample's loss in training minus its ``irreducible_loss``.

    High is useful to train on: the sample is not yet learned, but other samples would predict its
    label. A mislabeled sample scores low, since its loss is high under both models; an easy one is
    near 0. The score says what training would gain, not how hard a sample is. Its sign is a
    hypothesis.

    The regimen ``cross_fit`` gives both losses: one under a network that is being trained on the
    sample, one under a network that never is. With two folds each network sees half of the training
    data, the sample's own half or the other. With more folds their data overlap.

    The variant ``rho_loss.e5`` is taken after 5 epochs of training, the epoch stored as 4.

    Args:
        loss: Signal ``own_loss``, cross-entropy in nats, one row per epoch.
        holdout_loss: Snapshot ``holdout_loss``; NaN where no model was trained without the sample.
        seen: Which samples were evaluated in which epoch; all, if left out.
        epoch: 0-based epoch, counted from the end if negative; the mean over all epochs, if left
            out.

    Returns:
        One value per sample in nats, often negative and not clipped; NaN where ``holdout_loss`` is,
        where not seen in those epochs, and for all samples of a run without that epoch.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> loss, holdout_loss = np.array([[2.0, 3.0], [1.0, 1.0]]), np.array([0.5, 4.0])
        >>> rho_loss(loss, holdout_loss).tolist(), rho_loss(loss, holdout_loss, epoch=1).tolist()
        ([1.0, -2.0], [0.5, -3.0])

    References:
        Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and
        Not Yet Learnt", ICML 2022. The difference is that of OATML/RHO-Loss, selection_methods.py.
        By default that code takes the training loss in train mode, with the batch statistics of the
        candidates; ours uses eval mode for both losses.
    """
    seen = seen_entries(loss, seen)
    if holdout_loss.shape != loss.shape[1:]:
        raise ValueError(
            f"expected holdout_loss of {loss.shape[1]} samples; got shape {holdout_loss.shape}"
        )
    if epoch is None:
        own = mean_seen(loss, seen)
    elif -len(loss) <= epoch < len(loss):
        own = np.where(seen[epoch], loss[epoch].astype(np.float64), np.nan)
    else:
        own = np.full(loss.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        return own - holdout_loss


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    summary="loss of a model trained without the sample",
    paper="Mindermann et al., ICML 2022",
)
def irreducible_loss(
    holdout_loss: Float[np.ndarray, " samples"],
) -> Float64[np.ndarray, " samples"]:
    """Cross-entropy of the label under a model trained without the sample, at its best epoch.

    High is hard: other samples do not predict this label, as for a mislabeled or an ambiguous
    sample. The best epoch is that of the model's lowest validation loss.

    Args:
        holdout_loss: Snapshot ``holdout_loss``, in nats.

    Returns:
        One value per sample, from 0, unbounded; NaN where ``holdout_loss`` is.

    Example:
        >>> irreducible_loss(np.array([0.5, 4.0])).tolist()
        [0.5, 4.0]

    References:
        Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and
        Not Yet Learnt", ICML 2022. The quantity of OATML/RHO-Loss, train_irreducible.py, which
        chooses the epoch on the test set. So do we under ``validation: test``; a split of the
        training samples avoids that.
    """
    return holdout_loss.astype(np.float64)
