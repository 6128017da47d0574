"""What the nearest neighbors of a sample's embedding, or of its image, say about it."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer, UInt8

from hardness.metrics.axes import check_labels, checked_axes
from hardness.metrics.embedding import nearest_others
from hardness.metrics.registry import metric

# Fewest positive distances for an estimate: with two, its expected value is infinite.
_FEWEST = 3


@checked_axes
def has_duplicate(
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_distances: Float[np.ndarray, "samples k"] | None = None,
    normalize: bool = True,
) -> Bool[np.ndarray, " samples"]:
    """Whether the nearest other sample is at distance 0.

    Example:
        >>> has_duplicate(neighbor_distances=np.array([[0.0, 1.0], [0.5, 0.6]])).tolist()
        [True, False]
    """
    distances = _distances(emb, neighbor_distances, 1, normalize=normalize)
    return (distances == 0).any(axis=1)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="published",
    labels_used="none",
    signals=("neighbor_distances",),
    summary="mean distance to the 10 nearest neighbors",
    paper="Angiulli and Pizzuti, PKDD 2002; Sun et al., ICML 2022",
    flag=has_duplicate,
    variants={"kth": {"kth": True}},
)
def knn_distance(
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_distances: Float[np.ndarray, "samples neighbors"] | None = None,
    k: int = 10,
    kth: bool = False,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Mean Euclidean distance to the k nearest other samples.

    High is hard: no other sample looks like this one.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        neighbor_distances: Distances to the nearest others, in order, instead of ``emb``.
        k: Number of neighbors, at most the number of other samples or of given distances.
        kth: Whether to take the distance to the k-th neighbor instead of the mean.
        normalize: Whether to scale embeddings to length 1 first; given distances stay as they are.

    Returns:
        One distance per sample, 0 among duplicates; NaN for a single sample and for embeddings that
        are not finite.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``neighbor_distances`` is given, or if k is
            below 1.

    Example:
        >>> knn_distance(np.array([[0.0], [1.0], [3.0]]), k=2, normalize=False).tolist()
        [2.0, 1.5, 2.5]

    References:
        Angiulli and Pizzuti, "Fast Outlier Detection in High Dimensional Spaces", PKDD 2002, for
        the mean (as a sum); Sun et al., "Out-of-Distribution Detection with Deep Nearest
        Neighbors", ICML 2022, for the k-th distance on normalized embeddings. Agrees with
        scikit-learn's NearestNeighbors on rows scaled to length 1.
    """
    nearest = _distances(emb, neighbor_distances, k, normalize=normalize)
    if not nearest.shape[1]:
        return np.full(len(nearest), np.nan)
    return nearest[:, -1].astype(np.float64) if kth else nearest.mean(axis=1, dtype=np.float64)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    signals=("neighbor_distances",),
    summary="intrinsic dimension of the neighborhood",
    paper="Levina and Bickel, NIPS 2004",
    flag=has_duplicate,
)
def lid_mle(
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_distances: Float[np.ndarray, "samples neighbors"] | None = None,
    k1: int = 10,
    k2: int = 20,
    unbiased: bool = False,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Local intrinsic dimension by maximum likelihood, mean over neighborhoods of k1 to k2 samples.

    With distances ``T_1 <= ... <= T_k``, ``m_k = (k - 1) / sum_{j<k} ln(T_k / T_j)``. High is taken
    to be hard: more directions lead away from the sample. This is a hypothesis.

    Duplicates say nothing about dimension, so distances of 0 among the k2 nearest are removed
    first. If fewer than k2 (or k1) distances remain, k2 (or both) is their number. A k whose
    distances are all equal, to the precision of their type, has no estimate and does not enter the
    mean.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        neighbor_distances: Distances to the nearest others, in order, instead of ``emb``.
        k1: Smallest neighborhood, at least 3.
        k2: Largest neighborhood, at most the number of other samples or of given distances.
        unbiased: Whether to use k - 2 in place of k - 1.
        normalize: Whether to scale embeddings to length 1 first; given distances stay as they are.

    Returns:
        One dimension per sample, positive; NaN with fewer than 3 positive distances, where all of
        them are equal, and for embeddings that are not finite.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``neighbor_distances`` is given, or unless
            3 <= k1 <= k2.

    Example:
        >>> lid_mle(neighbor_distances=np.array([[0.0, 1.0, 1.0, np.e]]), k1=3, k2=4).tolist()
        [1.0]

    References:
        Levina and Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", NIPS 2004. A
        single ``m_k`` agrees with the pointwise values of scikit-dimension's MLE for k neighbors,
        except for duplicates, where that returns 0.
    """
    _check(k1, k2)
    distances = _distances(emb, neighbor_distances, k2, normalize=normalize)
    inverses, defined = _inverse_dimensions(distances, k1, k2, unbiased=unbiased)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(1.0 / inverses, axis=1, where=defined) / defined.sum(axis=1)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    signals=("neighbor_distances",),
    summary="intrinsic dimension, harmonic mean over neighborhoods",
    paper="MacKay and Ghahramani, 2005",
    flag=has_duplicate,
)
def lid_mle_harmonic(
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_distances: Float[np.ndarray, "samples neighbors"] | None = None,
    k1: int = 10,
    k2: int = 20,
    unbiased: bool = False,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Local intrinsic dimension by maximum likelihood, harmonic mean over neighborhoods.

    The reciprocal of the mean of ``1 / m_k`` over k1 to k2, with ``m_k``, duplicates and ties as in
    ``lid_mle``, which it never exceeds. High is taken to be hard, a hypothesis.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        neighbor_distances: Distances to the nearest others, in order, instead of ``emb``.
        k1: Smallest neighborhood, at least 3.
        k2: Largest neighborhood, at most the number of other samples or of given distances.
        unbiased: Whether to use k - 2 in place of k - 1.
        normalize: Whether to scale embeddings to length 1 first; given distances stay as they are.

    Returns:
        One dimension per sample, positive; NaN where ``lid_mle`` is.

    Raises:
        ValueError: On the same conditions as in ``lid_mle``.

    Example:
        >>> distances = np.array([[1.0, 1.0, np.e, np.e]])
        >>> lid_mle(neighbor_distances=distances, k1=3, k2=4).tolist()
        [1.25]
        >>> lid_mle_harmonic(neighbor_distances=distances, k1=3, k2=4).round(6).tolist()
        [1.2]

    References:
        MacKay and Ghahramani, "Comments on 'Maximum Likelihood Estimation of Intrinsic Dimension'
        by E. Levina and P. Bickel", 2005: ``1 / m`` should be averaged. They average it over
        samples.
    """
    _check(k1, k2)
    distances = _distances(emb, neighbor_distances, k2, normalize=normalize)
    inverses, defined = _inverse_dimensions(distances, k1, k2, unbiased=unbiased)
    with np.errstate(invalid="ignore", divide="ignore"):
        return defined.sum(axis=1) / np.sum(inverses, axis=1, where=defined)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    scope="pixels",
    signals={"distances": "pixel_distances"},
    summary="intrinsic dimension of the neighborhood of the image itself",
    paper="Levina and Bickel, NIPS 2004",
    variants={"harmonic": {"harmonic": True}},
)
def lid_mle_pixels(
    images: UInt8[np.ndarray, "samples height width channels"] | None = None,
    *,
    distances: Float[np.ndarray, "samples neighbors"] | None = None,
    k1: int = 10,
    k2: int = 20,
    unbiased: bool = False,
    harmonic: bool = False,
) -> Float64[np.ndarray, " samples"]:
    """Local intrinsic dimension of the images, by maximum likelihood on their pixels.

    ``lid_mle`` of Euclidean distances between pixels in 0 to 1, neither centred nor scaled to unit
    length: a darker copy of an image is another image. The estimate does not depend on the unit of
    the distances. High is taken to be hard, a hypothesis. It is a baseline: it needs no training.

    Args:
        images: Images as stored, before any normalization.
        distances: Distances to the nearest other images, in order, instead of ``images``.
        k1: Smallest neighborhood, at least 3.
        k2: Largest neighborhood, at most the number of other samples or of given distances.
        unbiased: Whether to use k - 2 in place of k - 1.
        harmonic: Whether to take the harmonic mean over neighborhoods, as ``lid_mle_harmonic``
            does.

    Returns:
        One dimension per sample, positive; NaN with fewer than 3 positive distances and where all
        of them are equal. Above 200,000 images, neighbors come from a fixed subset of that size.

    Raises:
        ValueError: Unless exactly one of ``images`` and ``distances`` is given, or unless
            3 <= k1 <= k2, or if images are not uint8.

    Example:
        >>> images = np.array([0, 1, 3, 7], dtype=np.uint8).reshape(4, 1, 1, 1)
        >>> lid_mle_pixels(images, k1=3, k2=3).round(3).tolist()
        [0.716, 0.692, 2.039, 2.802]

    References:
        Levina and Bickel, "Maximum Likelihood Estimation of Intrinsic Dimension", NIPS 2004; for
        duplicates see ``lid_mle``.
    """
    if (images is None) == (distances is None):
        raise ValueError("expected either images or distances; got both or neither")
    if images is not None:
        _check(k1, k2)
        # Imported here, as in `nearest_others`.
        from hardness.signals.blocks import as_tensor  # noqa: PLC0415
        from hardness.signals.neighbors import pixel_distances  # noqa: PLC0415

        distances = pixel_distances(as_tensor(images), k2).numpy()
    function = lid_mle_harmonic if harmonic else lid_mle
    return function(neighbor_distances=distances, k1=k1, k2=k2, unbiased=unbiased)


@metric(
    family="supervised",
    sign=1,
    sign_origin="published",
    labels_used="own",
    signals=("labels", "neighbor_rows"),
    summary="share of the 10 nearest neighbors with another label",
    paper="Smith et al., Machine Learning 2014",
)
def knn_label_disagreement(
    labels: Integer[np.ndarray, " samples"],
    emb: Float[np.ndarray, "*epochs samples width"] | None = None,
    *,
    neighbor_rows: Integer[np.ndarray, "samples neighbors"] | None = None,
    k: int = 10,
    normalize: bool = True,
) -> Float64[np.ndarray, " samples"]:
    """Share of the k nearest other samples whose label is not the sample's own.

    High is hard: samples that look like this one have other labels. Its label is wrong, or its
    class does not hold together there.

    Args:
        labels: Given class per sample, as any integers.
        emb: Embeddings; the last epoch is used if there are several.
        neighbor_rows: Rows of the nearest others, in order, instead of ``emb``; -1 for none.
        k: Number of neighbors, at most the number of other samples or of given rows.
        normalize: Whether to scale embeddings to length 1 first; given rows stay as they are.

    Returns:
        One share per sample in 0 to 1; NaN for a single sample and for embeddings that are not
        finite.

    Raises:
        ValueError: Unless exactly one of ``emb`` and ``neighbor_rows`` is given, if there is not
            one label for each sample, or if k is below 1.

    Example:
        >>> emb = np.array([[0.0], [1.0], [3.0]])
        >>> knn_label_disagreement(np.array([0, 0, 1]), emb, k=1, normalize=False).tolist()
        [0.0, 0.0, 1.0]

    References:
        Smith, Martinez and Giraud-Carrier, "An Instance Level Analysis of Data Complexity", Machine
        Learning 95, 2014: k-disagreeing neighbors, there in the space of the features. Among equal
        distances, the first rows are taken.
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    if (emb is None) == (neighbor_rows is None):
        raise ValueError("expected either emb or neighbor_rows; got both or neither")
    if emb is not None:
        neighbor_rows = nearest_others(emb, k, normalize=normalize)[1]
    assert neighbor_rows is not None
    check_labels(labels, len(neighbor_rows))
    nearest = neighbor_rows[:, :k]
    others = (labels[nearest] != labels[:, None]) & (nearest >= 0)
    with np.errstate(invalid="ignore"):
        return others.sum(axis=1) / (nearest >= 0).sum(axis=1)


def _check(k1: int, k2: int) -> None:
    if not _FEWEST <= k1 <= k2:
        raise ValueError(f"expected {_FEWEST} <= k1 <= k2; got k1={k1}, k2={k2}")


def _inverse_dimensions(
    distances: Float[np.ndarray, "samples neighbors"], k1: int, k2: int, *, unbiased: bool
) -> tuple[Float64[np.ndarray, "samples k"], Bool[np.ndarray, "samples k"]]:
    """``1 / m_k`` of each sample and k, and which k have an estimate."""
    positive = np.sort(np.where(distances > 0, distances, np.nan), axis=1)  # NaN goes last
    logs = np.log(positive.astype(np.float64))
    available = np.isfinite(logs).sum(axis=1)
    largest = np.minimum(k2, available)
    smallest = np.minimum(k1, largest)
    inverses = np.full((len(logs), logs.shape[1] + 1), np.nan)
    for k in range(_FEWEST, logs.shape[1] + 1):
        asked = (smallest <= k) & (k <= largest) & (available >= _FEWEST)
        if not asked.any():
            continue
        total = (logs[:, k - 1 : k] - logs[:, : k - 1]).sum(axis=1)
        inverses[asked, k] = total[asked] / (k - 2 if unbiased else k - 1)
    # Distances that differ only by rounding would give a dimension of 1e16.
    return inverses, inverses > 4 * np.finfo(distances.dtype).eps


def _distances(
    emb: np.ndarray | None, given: np.ndarray | None, k: int, *, normalize: bool
) -> np.ndarray:
    """The k nearest distances, or all if there are fewer."""
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    if given is not None and emb is None:
        return given[:, :k]
    if emb is None or given is not None:
        raise ValueError("expected either emb or neighbor_distances; got both or neither")
    return nearest_others(emb, k, normalize=normalize)[0]
