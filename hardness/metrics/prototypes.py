"""How far a sample is from the typical ones."""

import operator
import warnings
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float, Float64, Integer

from hardness.limits import LARGE
from hardness.metrics.axes import check_labels, checked_axes
from hardness.metrics.embedding import finite_rows
from hardness.metrics.registry import metric

# Batch size of k-means above LARGE samples: in small batches some centroids would never move.
_MINI_BATCH = 16_384


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
    n_classes: SupportsIndex,
    *,
    clusters_per_class: int = 1,
    random_state: int = 0,
) -> Float64[np.ndarray, " samples"]:
    """Euclidean distance of the normalized embedding to its nearest k-means centroid.

    High is hard: the sample is unlike all prototypes. The metric reads the number of classes, no
    labels.

    Args:
        emb: Embeddings; the last epoch is used if there are several. Rows are scaled to length 1;
            rows of zeros stay.
        n_classes: Number of classes of the dataset.
        clusters_per_class: Number of centroids per class.
        random_state: Seed of k-means, whose result is random: compare several seeds.

    Returns:
        One distance per sample in 0 to 2; NaN for embeddings that are not finite, and for all
        samples if fewer are finite than there are clusters.

    Raises:
        ValueError: If the embeddings have the wrong number of axes, or there is no cluster.

    Example:
        >>> emb = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> prototypicality(emb, n_classes=2).tolist()
        [0.0, 0.0, 0.0, 0.0]

    References:
        Sorscher et al., "Beyond Neural Scaling Laws: Beating Power Law Scaling via Data Pruning",
        NeurIPS 2022. Clustered by scikit-learn's KMeans with n_init=10, above 200,000 samples by
        its MiniBatchKMeans (Sculley, "Web-Scale K-Means Clustering", WWW 2010) with n_init=1.
        nn_example_difficulty does not normalize; H-CAT takes the cosine to the mean of the class.
    """
    clusters = operator.index(n_classes) * clusters_per_class
    if clusters < 1:
        raise ValueError(f"expected at least one cluster; got {clusters}")
    x, finite = finite_rows(emb, normalize=True)
    raw = np.full(len(finite), np.nan)
    if len(x) >= clusters:
        raw[finite] = _distance_to_centroid(x, clusters, random_state)
    return raw


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    signals=("emb", "labels"),
    summary="distance to the mean embedding of the given class",
    paper="Sorscher et al., NeurIPS 2022",
)
def prototypicality_supervised(
    emb: Float[np.ndarray, "*epochs samples width"],
    labels: Integer[np.ndarray, " samples"],
    *,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Euclidean distance of the normalized embedding to the mean of its given class.

    High is hard: the sample is unlike the others with its label. The mean is that of the normalized
    embeddings, the sample's own among them. Like a k-means centroid, it is not scaled to length 1.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        labels: Given class per sample, as any integers.
        normalize: Whether to scale embeddings to length 1 first; rows of zeros stay.

    Returns:
        One distance per sample, in 0 to 2 if normalized: 0 for the only sample of a class, which is
        its own mean; NaN for embeddings that are not finite, which enter no mean.

    Raises:
        ValueError: If the embeddings have the wrong number of axes, or there is not one label for
            each sample.

    Example:
        >>> emb = np.array([[1.0, 0.0], [-3.0, 0.0], [0.0, 5.0]])
        >>> prototypicality_supervised(emb, np.array([0, 0, 1])).tolist()
        [1.0, 1.0, 0.0]

    References:
        Sorscher et al., "Beyond Neural Scaling Laws: Beating Power Law Scaling via Data Pruning",
        NeurIPS 2022, with classes in place of clusters. Agrees with scikit-learn's NearestCentroid
        fitted to rows scaled to length 1. H-CAT takes the cosine to the mean of the class instead.
    """
    x, finite = finite_rows(emb, normalize=normalize)
    check_labels(labels, len(finite))
    _, codes = np.unique(labels[finite], return_inverse=True)
    sums = np.zeros((codes.max(initial=-1) + 1, x.shape[1]))
    np.add.at(sums, codes, x)
    means = sums / np.bincount(codes)[:, None]
    raw = np.full(len(finite), np.nan)
    raw[finite] = np.linalg.norm(x - means[codes], axis=1)
    return raw


@checked_axes
def prototypicality_of_random_states(
    emb: Float[np.ndarray, "*epochs samples width"],
    n_classes: SupportsIndex,
    *,
    clusters_per_class: int = 1,
    states: int = 5,
) -> Float64[np.ndarray, "states samples"]:
    """``prototypicality`` of one embedding under several random states of k-means.

    ``hardness.comparison.stability`` takes these rows in place of runs. Their spread is what
    clustering alone adds to the spread over seeds.

    Args:
        emb: Embeddings, as in ``prototypicality``.
        n_classes: Number of classes of the dataset.
        clusters_per_class: Number of centroids per class.
        states: Number of random states 0, 1, ..., each a k-means of its own.

    Example:
        >>> from hardness.comparison.stability import spearman_pair_mean
        >>> emb = np.random.default_rng(0).normal(size=(60, 4))
        >>> scores = prototypicality_of_random_states(emb, n_classes=8, states=4)
        >>> 0 < spearman_pair_mean(scores).value < 1
        True
    """
    options = {"clusters_per_class": clusters_per_class}
    found = [prototypicality(emb, n_classes, random_state=s, **options) for s in range(states)]
    return np.stack(found)


def _distance_to_centroid(
    x: Float64[np.ndarray, "samples width"], clusters: int, random_state: int
) -> Float64[np.ndarray, " samples"]:
    # Imported here, as torch is in `nearest_others`.
    from sklearn.cluster import KMeans, MiniBatchKMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    if len(x) > LARGE:
        kmeans = MiniBatchKMeans(
            clusters, n_init=1, batch_size=_MINI_BATCH, random_state=random_state
        )
    else:
        kmeans = KMeans(clusters, n_init=10, random_state=random_state)
    # Several threads add up a centroid in any order, which changes its last bits.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        nearest = kmeans.fit_predict(x)
    distances = np.empty(len(x))
    for start in range(0, len(x), _MINI_BATCH):  # in blocks, to save a copy of x
        rows = slice(start, start + _MINI_BATCH)
        centroids = kmeans.cluster_centers_[nearest[rows]]
        distances[rows] = np.linalg.norm(x[rows] - centroids, axis=1)
    return distances
