"""How far a sample's embedding moves between epochs, and how large it is."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Float64

from hardness.metrics.embedding import unit_length
from hardness.metrics.history import mean_seen, seen_entries, std_seen
from hardness.metrics.registry import metric

_SOURCE = "Natifick/Unsupervisely-Hard"


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    signals=("msd",),
    summary="mean squared displacement of the embedding between epochs",
    paper=_SOURCE,
)
def msd_mean(
    emb: Float[np.ndarray, "epochs samples width"] | None = None,
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    msd: Float[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Mean over epochs of the embedding's mean squared displacement between epochs.

    High is taken to be hard: embeddings of easy samples are said to become stable early. This is a
    hypothesis; no measurement has been published.

    Args:
        emb: Embeddings, one snapshot per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out. A displacement is
            measured between consecutive epochs in which the sample was seen.
        msd: Signal ``msd``, instead of ``emb``: in row e the displacement into epoch e. The first
            row is undefined and not read.

    Returns:
        One value per sample, from 0, in squared units of the embedding; NaN where seen less than
        twice.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``msd`` is given, or if shapes disagree.

    Example:
        >>> msd_mean(np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[2.0, 0.0]]])).tolist()
        [1.0]

    References:
        Defined in Natifick/Unsupervisely-Hard, which never measured it: its buffer of the previous
        epoch stayed zero, so what it publishes as MSD is ``feature_norm_mean``. Ours follows the
        definition.
    """
    return mean_seen(*_displacements(emb, msd, seen, "msd", _mean_square))


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    signals=("msd",),
    summary="standard deviation of the embedding's squared displacement",
    paper=_SOURCE,
)
def msd_std(
    emb: Float[np.ndarray, "epochs samples width"] | None = None,
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    msd: Float[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Standard deviation over epochs of the embedding's mean squared displacement.

    High is taken to be hard: the sample moves in jumps. This is a hypothesis; no measurement has
    been published.

    Args:
        emb: Embeddings, one snapshot per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out. A displacement is
            measured between consecutive epochs in which the sample was seen.
        msd: Signal ``msd``, instead of ``emb``: in row e the displacement into epoch e. The first
            row is undefined and not read.

    Returns:
        One population standard deviation per sample; NaN with fewer than two displacements, hence
        where seen less than three times.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``msd`` is given, or if shapes disagree.

    Example:
        >>> msd_std(np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[2.0, 0.0]]])).tolist()
        [1.0]

    References:
        Defined in Natifick/Unsupervisely-Hard, which never measured it; see ``msd_mean``.
    """
    return std_seen(*_displacements(emb, msd, seen, "msd", _mean_square))


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    signals=("msd_cosine",),
    summary="mean cosine distance of the embedding between epochs",
    paper=_SOURCE,
    variants={"std": {"spread": True}},
)
def msd_cosine(
    emb: Float[np.ndarray, "epochs samples width"] | None = None,
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    msd_cosine: Float[np.ndarray, "epochs samples"] | None = None,
    spread: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Mean over epochs of the embedding's cosine distance between consecutive epochs.

    High is taken to be hard, as for ``msd_mean``. Prefer it in comparisons: it does not grow with
    the length of the embedding. This is a hypothesis; no measurement has been published.

    Args:
        emb: Embeddings, one snapshot per epoch. An embedding of length zero has no direction: its
            distance is 1, a right angle, to any other, and 0 to another of length zero.
        seen: Which samples were evaluated in which epoch; all, if left out. A distance is measured
            between consecutive epochs in which the sample was seen.
        msd_cosine: Signal ``msd_cosine``, instead of ``emb``: in row e the distance into epoch e.
            The first row is undefined and not read.
        spread: Whether to take the population standard deviation over epochs instead of the mean.

    Returns:
        One value per sample, in 0 to 2, as a spread in 0 to 1; NaN where seen less than twice, for
        a spread less than three times.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``msd_cosine`` is given, or if shapes
            disagree.

    Example:
        >>> msd_cosine(np.array([[[1.0, 0.0]], [[0.0, 2.0]], [[0.0, 5.0]]])).tolist()
        [0.5]

    References:
        The displacement of Natifick/Unsupervisely-Hard, which never measured it (see ``msd_mean``),
        without the effect of the embedding's length.
    """
    moved, defined = _displacements(emb, msd_cosine, seen, "msd_cosine", _turn)
    return std_seen(moved, defined) if spread else mean_seen(moved, defined)


@metric(
    family="unsupervised",
    sign=-1,
    sign_origin="measured",
    labels_used="none",
    signals=("feature_norm",),
    summary="mean square of the embedding, mean over epochs",
    paper=_SOURCE,
)
def feature_norm_mean(
    emb: Float[np.ndarray, "epochs samples width"] | None = None,
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    feature_norm: Float[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Mean over epochs after the first of the embedding's mean square over its dimensions.

    Low is hard: atypical samples excite few features. The sign was measured on CIFAR-10 against
    forgetting counts, so results on CIFAR-10 are exploratory.

    Args:
        emb: Embeddings, one snapshot per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        feature_norm: Signal ``feature_norm``, instead of ``emb``, one row per epoch.

    Returns:
        One value per sample, from 0, in squared units of the embedding; NaN where not seen in the
        epochs that count. The first epoch counts only if it is the only one.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``feature_norm`` is given, or if shapes
            disagree.

    Example:
        >>> feature_norm_mean(np.array([[[9.0, 9.0]], [[2.0, 0.0]], [[0.0, 2.0]]])).tolist()
        [2.0]

    References:
        Published as "MSD" in Natifick/Unsupervisely-Hard, where it is measured right after the
        update on the sample's own batch. Row 0 of that history is zeros, which the published mean
        sometimes includes.
    """
    return mean_seen(*_norms(emb, feature_norm, seen))


@metric(
    family="unsupervised",
    sign=-1,
    sign_origin="measured",
    labels_used="none",
    signals=("feature_norm",),
    summary="mean square of the embedding, standard deviation over epochs",
    paper=_SOURCE,
)
def feature_norm_std(
    emb: Float[np.ndarray, "epochs samples width"] | None = None,
    seen: Bool[np.ndarray, "epochs samples"] | None = None,
    *,
    feature_norm: Float[np.ndarray, "epochs samples"] | None = None,
) -> Float64[np.ndarray, " samples"]:
    """Standard deviation over epochs after the first of the embedding's mean square.

    Low is hard, as for ``feature_norm_mean``, with which it grows.

    Args:
        emb: Embeddings, one snapshot per epoch.
        seen: Which samples were evaluated in which epoch; all, if left out.
        feature_norm: Signal ``feature_norm``, instead of ``emb``, one row per epoch.

    Returns:
        One population standard deviation per sample; NaN where seen less than twice after the first
        epoch.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``feature_norm`` is given, or if shapes
            disagree.

    Example:
        >>> feature_norm_std(np.array([[[9.0, 9.0]], [[2.0, 0.0]], [[0.0, 0.0]]])).tolist()
        [1.0]

    References:
        Published as the standard deviation of "MSD" in Natifick/Unsupervisely-Hard.
    """
    return std_seen(*_norms(emb, feature_norm, seen))


def _displacements(
    emb: np.ndarray | None,
    recorded: np.ndarray | None,
    seen: np.ndarray | None,
    name: str,
    between: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Displacement into each epoch except the first, and which entries are defined."""
    if emb is not None and recorded is None:
        seen = seen_entries(emb, seen)
        rows = np.empty((len(emb) - 1, emb.shape[1]))
        before = emb[0]
        for e in range(1, len(emb)):
            with np.errstate(invalid="ignore"):
                rows[e - 1] = between(emb[e].astype(np.float64), before.astype(np.float64))
            before = np.where(seen[e, :, None], emb[e], before)
    elif recorded is not None and emb is None:
        seen = seen_entries(recorded, seen)
        rows = recorded[1:]
    else:
        raise ValueError(f"expected either emb or {name}; got both or neither")
    seen_before = np.logical_or.accumulate(seen, axis=0)[:-1]
    return rows, seen[1:] & seen_before


def _mean_square(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return ((new - old) ** 2).mean(axis=1)


def _turn(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """``1 - cos`` as half the squared distance of unit vectors, exact for small angles."""
    u, v = unit_length(new), unit_length(old)
    zero, was_zero = ((x == 0).all(axis=1) for x in (new, old))
    return np.where(zero | was_zero, zero != was_zero, ((u - v) ** 2).sum(axis=1) / 2)


def _norms(
    emb: np.ndarray | None, feature_norm: np.ndarray | None, seen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of the epochs that count, and which entries were seen."""
    if emb is not None and feature_norm is None:
        rows = np.array([(epoch.astype(np.float64) ** 2).mean(axis=1) for epoch in emb])
        rows = rows.reshape(emb.shape[:2])
    elif feature_norm is not None and emb is None:
        rows = feature_norm
    else:
        raise ValueError("expected either emb or feature_norm; got both or neither")
    first = min(1, len(rows) - 1)
    return rows[first:], seen_entries(rows, seen)[first:]
