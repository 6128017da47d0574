"""The loss of a sample under a network that was trained without it, and what training takes off."""

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
    summary="mean loss while trained on, less the loss of a model that is not",
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
    """Reducible holdout loss: a sample's loss in training less its `irreducible_loss`.

    High is useful to train on: not yet learned, yet what others teach would predict the label.
    A mislabeled sample is low, since its loss is high under both models; an easy one is near 0.
    It says what training would gain, not how hard a sample is, and its sign is a hypothesis.

    The regimen ``cross_fit`` gives both sides: the loss under a network that is being trained on
    the sample, and that under one which never is. With two folds either sees half the training
    data only, the sample's own half and the other; with more folds they share what is left.

    The variant ``rho_loss.e5`` is taken after 5 epochs of training, the epoch stored as 4, as
    ``el2n.e5`` is.

    Args:
        loss: Signal ``own_loss``, cross-entropy in nats, one row per epoch.
        holdout_loss: Snapshot of that name; NaN where a model without the sample is not at hand.
        seen: Which samples were evaluated in which epoch; all, if left out.
        epoch: 0-based, from the end if negative; the mean over all, if left out.

    Returns:
        One value per sample in nats, often negative and not clipped; NaN where ``holdout_loss`` is
        or where not seen in those epochs, and for all samples of a run without that epoch.

    Raises:
        ValueError: If the arrays disagree in shape.

    Example:
        >>> loss, holdout_loss = np.array([[2.0, 3.0], [1.0, 1.0]]), np.array([0.5, 4.0])
        >>> rho_loss(loss, holdout_loss).tolist(), rho_loss(loss, holdout_loss, epoch=1).tolist()
        ([1.0, -2.0], [0.5, -3.0])

    References:
        Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and
        Not Yet Learnt", ICML 2022. The difference is that of OATML/RHO-Loss,
        selection_methods.py, which however takes the training loss in train mode by default, with
        the batch statistics of the candidates; ours is in eval mode on both sides.
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
    summary="loss of a model that was not trained on the sample",
    paper="Mindermann et al., ICML 2022",
)
def irreducible_loss(
    holdout_loss: Float[np.ndarray, " samples"],
) -> Float64[np.ndarray, " samples"]:
    """Cross-entropy of the label under a model trained without the sample, at its best epoch.

    High is hard: what other samples teach does not predict this label, as for a mislabeled or an
    ambiguous sample. The epoch is that of the model's lowest validation loss.

    Args:
        holdout_loss: Snapshot of that name, in nats.

    Returns:
        One value per sample, from 0, unbounded; NaN stays NaN.

    Example:
        >>> irreducible_loss(np.array([0.5, 4.0])).tolist()
        [0.5, 4.0]

    References:
        Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and
        Not Yet Learnt", ICML 2022. The quantity of OATML/RHO-Loss, train_irreducible.py, which
        chooses the epoch on the test set; so do we under ``validation: test``, while a split of the
        training samples keeps the test set out of it.
    """
    return holdout_loss.astype(np.float64)
