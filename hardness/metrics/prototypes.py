"""How far a sample is from the typical ones."""

import warnings

import numpy as np
from jaxtyping import Float, Float64
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has none

from hardness.metrics.registry import metric


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="published",
    labels_used="none",
    signals=("emb", "n_classes"),
    summary="distance to the nearest k-means centroid",
    paper="Sorscher et al., NeurIPS 2022",
    variants={"ten_per_class": {"clusters_per_class": 10}},
)
def prototypicality(
    emb: Float[np.ndarray, "*epochs samples width"],
    n_classes: int,
    *,
    clusters_per_class: int = 1,
    random_state: int = 0,
) -> Float64[np.ndarray, " samples"]:
    """Euclidean distance of the normalized embedding to its nearest k-means centroid.

    High is hard: the sample is unlike any of the prototypes. Uses the number of classes, no labels.

    Args:
        emb: Embeddings, of the last epoch if there are several; scaled to length 1, zeros stay.
        n_classes: Of the dataset.
        clusters_per_class: Centroids for each of them.
        random_state: Of k-means, which is itself random: look at the spread over several.

    Returns:
        One distance per sample in 0 to 2; NaN for embeddings that are not finite, and for all if
        there are fewer finite ones than clusters.

    Raises:
        ValueError: If the embeddings have another number of axes or there is no cluster.

    Example:
        >>> emb = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> prototypicality(emb, n_classes=2).tolist()
        [0.0, 0.0, 0.0, 0.0]

    References:
        Sorscher et al., "Beyond Neural Scaling Laws: Beating Power Law Scaling via Data Pruning",
        NeurIPS 2022. Clustered by scikit-learn's KMeans with n_init=10. nn_example_difficulty does
        not normalize; H-CAT takes the cosine to the mean of the class.
    """
    if emb.ndim not in (2, 3):
        raise ValueError(f"expected emb as samples by width; came shape {emb.shape}")
    clusters = n_classes * clusters_per_class
    if clusters < 1:
        raise ValueError(f"expected at least one cluster; came {clusters}")
    last = emb[-1] if emb.ndim == 3 else emb  # noqa: PLR2004 - epochs, samples, width
    finite = np.isfinite(last).all(axis=1)
    raw = np.full(len(last), np.nan)
    if finite.sum() >= clusters:
        raw[finite] = _distance_to_centroid(_normalized(last[finite]), clusters, random_state)
    return raw


def _distance_to_centroid(
    x: Float64[np.ndarray, "samples width"], clusters: int, random_state: int
) -> Float64[np.ndarray, " samples"]:
    kmeans = KMeans(clusters, n_init=10, random_state=random_state)
    # Several threads add up a centroid in any order, which changes its last bits.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        nearest = kmeans.fit_predict(x)
    return np.linalg.norm(x - kmeans.cluster_centers_[nearest], axis=1)


def _normalized(x: Float[np.ndarray, "samples width"]) -> Float64[np.ndarray, "samples width"]:
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1.0)
