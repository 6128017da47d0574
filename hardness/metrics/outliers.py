"""Outlier scores of the embedding, from its neighbors or from random cuts."""

import numpy as np
from jaxtyping import Float, Float64, Integer

from hardness.metrics.embedding import finite_rows, nearest_others
from hardness.metrics.registry import metric

# Added to a mean distance before dividing by it, as in scikit-learn.
_EPSILON = 1e-10


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="published",
    labels_used="none",
    signals=("neighbor_distances", "neighbor_rows"),
    summary="how much sparser the sample lies than its neighbors",
    paper="Breunig et al., SIGMOD 2000",
)
def lof(
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_distances: Float[np.ndarray, "samples neighbors"] | None = None,
    neighbor_rows: Integer[np.ndarray, "samples neighbors"] | None = None,
    k: int = 20,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Local outlier factor: mean density around a sample's k nearest neighbors over its own.

    High is hard: the sample lies apart from a denser group. Density is one over the mean
    reachability distance, ``max(distance, the neighbor's k-th distance)``.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        neighbor_distances: Distances to the nearest others, in order, instead of ``emb``.
        neighbor_rows: Rows of those others, given with ``neighbor_distances``; -1 for none.
        k: Number of neighbors, at most the number of other samples or of given columns.
        normalize: Whether to scale embeddings to length 1 first, as for all metrics of neighbors;
            given distances stay as they are.

    Returns:
        One factor per sample, positive, near 1 inside a group and among duplicates; NaN for a
        single sample and for embeddings that are not finite. The factor is huge beside a group of
        more than k duplicates, whose density has no bound but 1e10.

    Raises:
        ValueError: Unless either ``emb`` or both neighbor arrays are given, or if k is below 1.

    Example:
        >>> emb = np.array([[0.0], [1.0], [2.0], [9.0]])
        >>> lof(emb, k=2, normalize=False).round(3).tolist()
        [0.875, 1.333, 0.875, 4.375]

    References:
        Breunig et al., "LOF: Identifying Density-Based Local Outliers", SIGMOD 2000. Agrees with
        scikit-learn's negative_outlier_factor_ with the sign reversed, on rows scaled to length 1.
        Both take exactly k neighbors, where the paper takes all that tie with the k-th.
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    if emb is not None and neighbor_distances is None and neighbor_rows is None:
        neighbor_distances, neighbor_rows = nearest_others(emb, k, normalize=normalize)
    elif emb is not None or neighbor_distances is None or neighbor_rows is None:
        raise ValueError(
            "expected emb alone or both neighbor_distances and neighbor_rows; got neither or a mix"
        )
    distances = neighbor_distances[:, :k].astype(np.float64)
    rows = neighbor_rows[:, :k]
    if not rows.shape[1]:
        return np.full(len(rows), np.nan)
    # A row of -1 reads the last sample here, but its distances are NaN and stay NaN.
    reachability = np.maximum(distances, distances[rows, -1])
    density = 1.0 / (reachability.mean(axis=1) + _EPSILON)
    return density[rows].mean(axis=1) / density


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="published",
    labels_used="none",
    signals=("emb",),
    summary="how few random cuts isolate the sample",
    paper="Liu et al., ICDM 2008",
)
def isolation_forest(
    emb: Float[np.ndarray, "*epochs samples width"],
    *,
    random_state: int = 0,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Anomaly score of an isolation forest of 100 trees, each grown on 256 samples.

    High is hard: few random cuts along the axes of the embedding leave the sample alone.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        random_state: Seed of the forest. The forest draws samples by position: another order of the
            samples gives another forest, as good as the first.
        normalize: Whether to scale embeddings to length 1 first, as for all outlier scores.

    Returns:
        One score per sample in 0 to 1, higher for outliers; NaN for embeddings that are not finite,
        and for all samples if fewer than two are finite.

    Raises:
        ValueError: If the embeddings have the wrong number of axes.

    Example:
        >>> emb = np.concatenate([np.random.default_rng(0).normal([9, 0], 0.1, (60, 2)), [[0, 9]]])
        >>> int(isolation_forest(emb).argmax())
        60

    References:
        Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. Computed as scikit-learn's score_samples
        with the sign reversed.
    """
    # Imported here, as torch is in `nearest_others`.
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    x, finite = finite_rows(emb, normalize=normalize)
    raw = np.full(len(finite), np.nan)
    if len(x) > 1:
        forest = IsolationForest(n_estimators=100, random_state=random_state)
        raw[finite] = -forest.fit(x).score_samples(x)
    return raw
