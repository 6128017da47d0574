"""Neighbor distance, intrinsic dimension and neighbors' labels, duplicates above all."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import normalize as sklearn_normalize

from hardness.metrics.neighborhood import (
    has_duplicate,
    knn_distance,
    knn_label_disagreement,
    lid_mle,
    lid_mle_harmonic,
    lid_mle_pixels,
)
from hardness.metrics.outliers import lof
from hardness.metrics.registry import METRICS
from hardness.signals.neighbors import neighbors, pixel_distances
from tests.strategies import embeddings


def distances_of(emb, k):
    """Every pair from differences, nearest first, self left out."""
    x = emb.astype(np.float64)
    distances = np.sqrt(((x[:, None] - x) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    return np.sort(distances, axis=1)[:, : min(k, len(x) - 1)]


def slow_lid(distances, k1=10, k2=20, *, unbiased=False, harmonic=False):
    """One sample: the equation of Levina and Bickel on its positive distances."""
    positive = [t for t in distances[:k2] if t > 0]
    if len(positive) < 3:
        return np.nan
    estimates = []
    for k in range(min(k1, len(positive)), min(k2, len(positive)) + 1):
        total = sum(np.log(positive[k - 1] / t) for t in positive[: k - 1])
        if total > 0:
            estimates.append((k - 2 if unbiased else k - 1) / total)
    if not estimates:
        return np.nan
    return 1 / np.mean(1 / np.array(estimates)) if harmonic else np.mean(estimates)


def test_worked_by_hand():
    emb = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert knn_distance(emb, k=2, normalize=False).tolist() == [2.0, 1.5, 2.5, 5.0]
    assert knn_distance(emb, k=2, kth=True, normalize=False).tolist() == [3.0, 2.0, 3.0, 6.0]
    powers = np.exp2(np.array([[0.0, 1.0, 2.0, 3.0]]))
    three, four = 2 / (3 * np.log(2)), 3 / (6 * np.log(2))
    both = lid_mle(neighbor_distances=powers, k1=3, k2=4)
    assert both.tolist() == pytest.approx([(three + four) / 2])
    unbiased = lid_mle(neighbor_distances=powers, k1=4, k2=4, unbiased=True)
    assert unbiased.tolist() == pytest.approx([four * 2 / 3])
    harmonic = lid_mle_harmonic(neighbor_distances=powers, k1=3, k2=4)
    assert harmonic.tolist() == pytest.approx([2 / (1 / three + 1 / four)])


def test_an_isolated_sample_scores_harder():
    emb = np.random.default_rng(0).normal([5.0, 0.0, 0.0], 0.1, (50, 3))
    emb[7] = [-5.0, 1.0, 0.0]
    for key in ("knn_distance", "knn_distance.kth"):
        hardness = METRICS[key].sign * METRICS[key].function(emb)
        assert hardness.argmax() == 7


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_finds_the_dimension_of_a_manifold(dimension):
    rng = np.random.default_rng(dimension)
    flat = rng.random((3000, dimension)) @ rng.standard_normal((dimension, 12))
    estimate = lid_mle(flat, normalize=False, unbiased=True)
    assert np.median(estimate) == pytest.approx(dimension, rel=0.15)


@given(emb=embeddings(max_samples=15), k=st.integers(1, 12))
def test_knn_distance_equals_every_pair(emb, k):
    nearest = distances_of(emb, k) if len(emb) > 1 else np.full((1, 1), np.nan)
    raw, kth = (knn_distance(emb, k=k, kth=kth, normalize=False) for kth in (False, True))
    np.testing.assert_allclose(raw, nearest.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(kth, nearest[:, -1], rtol=1e-12)


def test_agrees_with_scikit_learn():
    emb = np.random.default_rng(0).standard_normal((80, 6))
    nearest = NearestNeighbors(n_neighbors=10).fit(sklearn_normalize(emb)).kneighbors()[0]
    np.testing.assert_allclose(knn_distance(emb), nearest.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(knn_distance(emb, kth=True), nearest[:, -1], rtol=1e-12)


@given(
    rows=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.0, 1.75, 3.0]),
    ),
    bounds=st.tuples(st.integers(3, 8), st.integers(3, 8)).map(sorted),
    unbiased=st.booleans(),
    harmonic=st.booleans(),
)
def test_lid_equals_the_equation_with_ties_and_duplicates(rows, bounds, unbiased, harmonic):
    rows = np.sort(rows, axis=1)
    options = {"k1": bounds[0], "k2": bounds[1], "unbiased": unbiased}
    raw = (lid_mle_harmonic if harmonic else lid_mle)(neighbor_distances=rows, **options)
    expected = [slow_lid(row, harmonic=harmonic, **options) for row in rows]
    np.testing.assert_allclose(raw, expected, rtol=1e-9)
    assert not (np.isinf(raw) | (raw == 0)).any()


def test_agrees_with_scikit_dimension():
    """Values of skdim.id.MLE 0.5.0, fitted with n_neighbors=8."""
    emb = np.sin(np.arange(36.0).reshape(12, 3) ** 2)
    biased = [
        2.154134461299484, 2.7196720184336605, 1.7731106231258111, 1.4641385544978656,
        1.5544722863108795, 2.089708658903522, 1.8397452399991003, 2.8258434652595845,
        2.74804514455281, 3.0074992059612287, 1.4957249438143088, 1.5010442717182206,
    ]  # fmt: skip
    for function in (lid_mle, lid_mle_harmonic):
        raw = function(emb, k1=8, k2=8, normalize=False)
        np.testing.assert_allclose(raw, biased, rtol=1e-9)
    unbiased = lid_mle(emb, k1=8, k2=8, unbiased=True, normalize=False)
    np.testing.assert_allclose(unbiased, np.array(biased) * 6 / 7, rtol=1e-9)


@given(emb=embeddings())
def test_the_harmonic_mean_is_the_smaller_one(emb):
    arithmetic, harmonic = lid_mle(emb), lid_mle_harmonic(emb)
    np.testing.assert_array_equal(np.isnan(arithmetic), np.isnan(harmonic))
    there = ~np.isnan(harmonic)
    assert (harmonic[there] <= arithmetic[there] * (1 + 1e-12)).all()


@given(emb=embeddings())
def test_embeddings_and_recorded_distances_agree(emb):
    recorded = neighbors(torch.tensor(emb), 20, normalize=True)[0].numpy()
    for function in (knn_distance, lid_mle, lid_mle_harmonic, has_duplicate):
        np.testing.assert_array_equal(function(emb), function(neighbor_distances=recorded))


def test_distances_recorded_in_single_precision_give_the_same_dimension():
    emb = np.random.default_rng(0).standard_normal((60, 4))
    recorded = distances_of(sklearn_normalize(emb), 20).astype(np.float32)
    np.testing.assert_allclose(lid_mle(neighbor_distances=recorded), lid_mle(emb), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_equal_but_for_rounding_have_no_dimension(dtype):
    nearly = np.array([[1.0, 1.0, 1.0, np.nextafter(dtype(1), dtype(2))]], dtype=dtype)
    assert np.isnan(lid_mle(neighbor_distances=nearly)).all()


def test_one_duplicated_row_does_not_destroy_the_estimate():
    """scikit-dimension gives 0 for both rows, and for the pooled value."""
    emb = np.random.default_rng(0).standard_normal((300, 5))
    alone = lid_mle(emb)
    doubled = np.concatenate([emb, emb[:1]])
    raw = lid_mle(doubled)
    assert raw[0] == raw[-1]
    assert raw[0] == pytest.approx(alone[0], rel=0.2)
    assert has_duplicate(doubled).nonzero()[0].tolist() == [0, 300]
    flags = METRICS["lid_mle"].flagged({"neighbor_distances": np.array([[0.0, 1.0], [1.0, 2.0]])})
    assert flags.tolist() == [True, False]


def test_duplicates_are_removed_before_the_first_distance_is_chosen():
    padded, bare = np.array([[0.0, 0.0, 1.0, 2.0, 4.0]]), np.array([[1.0, 2.0, 4.0]])
    np.testing.assert_array_equal(
        lid_mle(neighbor_distances=padded), lid_mle(neighbor_distances=bare)
    )


@pytest.mark.parametrize(
    "distances",
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0], [1.0, 2.0], [np.nan] * 4],
    ids=["duplicates only", "two positive", "all equal", "two neighbors", "not finite"],
)
def test_no_estimate_where_there_is_none(distances):
    for function in (lid_mle, lid_mle_harmonic):
        assert np.isnan(function(neighbor_distances=np.array([distances]))).all()


def test_knn_distance_keeps_duplicates_at_zero():
    assert (knn_distance(np.ones((12, 3))) == 0).all()


LAYOUTS = {
    "backwards": lambda x: x[::-1].copy()[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "foreign": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_how_an_array_lies_in_memory_does_not_matter(layout):
    rng = np.random.default_rng(0)
    emb = rng.normal(size=(30, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 30)
    for function in (knn_distance, lid_mle, lid_mle_harmonic, has_duplicate, lof):
        np.testing.assert_array_equal(function(layout(emb)), function(emb))
    raw = knn_label_disagreement(labels, emb)
    np.testing.assert_array_equal(knn_label_disagreement(labels, layout(emb)), raw)
    images = rng.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(lid_mle_pixels(layout(images)), lid_mle_pixels(images))


def test_the_last_epoch_counts():
    emb = np.random.default_rng(0).standard_normal((2, 30, 4))
    for function in (knn_distance, lid_mle, lid_mle_harmonic, has_duplicate):
        np.testing.assert_array_equal(function(emb), function(emb[1]))


def test_nan_rows_are_no_neighbors():
    emb = np.random.default_rng(0).standard_normal((30, 4))
    spoiled = np.concatenate([emb, np.full((1, 4), np.nan)])
    for function in (knn_distance, lid_mle, lid_mle_harmonic):
        np.testing.assert_array_equal(function(spoiled)[:-1], function(emb))
        assert np.isnan(function(spoiled)[-1])
    assert not has_duplicate(spoiled).any()


@pytest.mark.parametrize("function", [knn_distance, lid_mle, lid_mle_harmonic, has_duplicate])
def test_exactly_one_input(function):
    message = "either emb or neighbor_distances; got both or neither"
    with pytest.raises(ValueError, match=message):
        function()
    with pytest.raises(ValueError, match=message):
        function(np.ones((3, 2)), neighbor_distances=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"emb \[samples, width\] or \[epochs, samples, width\]"):
        function(np.ones(3))


def test_numbers_of_neighbors_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        knn_distance(np.ones((3, 2)), k=0)
    with pytest.raises(ValueError, match="3 <= k1 <= k2; got k1=5, k2=4"):
        lid_mle(np.ones((3, 2)), k1=5, k2=4)
    with pytest.raises(ValueError, match="3 <= k1 <= k2; got k1=2, k2=4"):
        lid_mle_harmonic(np.ones((3, 2)), k1=2, k2=4)


def pictures(samples, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (samples, 4, 3, 2), dtype=np.uint8)


@pytest.mark.parametrize("harmonic", [False, True])
def test_the_dimension_of_pixels_equals_the_equation(harmonic):
    images = pictures(40)
    images[7] = images[3]
    key = "lid_mle_pixels.harmonic" if harmonic else "lid_mle_pixels"
    entry = METRICS[key]
    distances = distances_of(images.reshape(40, -1) / 255, 20)
    expected = [slow_lid(row, harmonic=harmonic) for row in distances]
    np.testing.assert_allclose(lid_mle_pixels(images, harmonic=harmonic), expected, rtol=1e-9)
    np.testing.assert_allclose(entry.score({"pixel_distances": distances}), expected, rtol=1e-9)
    assert (entry.scope, entry.labels_used, entry.sign_origin) == ("pixels", "none", "hypothesis")


def test_the_dimension_of_pixels_is_lid_mle_of_rows_as_they_are():
    """In 0 to 1, not scaled to unit length: brightness counts."""
    images = pictures(60)
    unit = images.reshape(60, -1) / 255
    raw = lid_mle_pixels(images)
    np.testing.assert_allclose(raw, lid_mle(unit, normalize=False), rtol=1e-9)
    np.testing.assert_allclose(raw, lid_mle(unit * 255, normalize=False), rtol=1e-9)
    assert not np.allclose(raw, lid_mle(unit, normalize=True))


@pytest.mark.parametrize("dimension", [2, 4])
def test_finds_the_number_of_ways_in_which_images_differ(dimension):
    """Each image is flat but for as many pixels as there are ways."""
    rng = np.random.default_rng(dimension)
    images = np.full((2000, 4, 4, 1), 128, dtype=np.uint8)
    images.reshape(2000, -1)[:, :dimension] = rng.integers(0, 256, (2000, dimension))
    estimate = np.nanmedian(lid_mle_pixels(images, unbiased=True))
    assert estimate == pytest.approx(dimension, rel=0.25)


def test_duplicated_images_and_too_few_of_them():
    images = pictures(30)
    doubled = np.concatenate([images, images[:1]])
    raw = lid_mle_pixels(doubled)
    assert raw[0] == raw[-1]
    assert np.isfinite(raw).all()
    assert np.isnan(lid_mle_pixels(images[:1])).all()
    assert np.isnan(lid_mle_pixels(images[:3])).all()
    assert np.isnan(lid_mle_pixels(np.zeros((25, 2, 2, 1), np.uint8))).all()


def test_pixels_that_are_no_bytes_are_refused():
    message = "images as uint8, 0 to 255; got torch.float64"
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(pixel_distances)(torch.zeros(5, 4, 4, 3, dtype=torch.float64), 3)


def test_pixels_or_their_distances():
    message = "either images or distances; got both or neither"
    with pytest.raises(ValueError, match=message):
        lid_mle_pixels()
    with pytest.raises(ValueError, match=message):
        lid_mle_pixels(pictures(4), distances=np.ones((4, 3)))
    with pytest.raises(ValueError, match="3 <= k1 <= k2; got k1=2, k2=20"):
        lid_mle_pixels(pictures(4), k1=2)


def test_disagreement_worked_by_hand():
    emb = np.array([[0.0], [1.0], [2.5], [4.5]])
    labels = np.array([0, 0, 1, 0])
    raw = knn_label_disagreement(labels, emb, k=2, normalize=False)
    assert raw.tolist() == [0.5, 0.5, 1.0, 0.5]
    rows = np.array([[1, 2, 3], [0, 2, 3], [1, 3, 0], [2, 1, 0]], dtype=np.int32)
    assert knn_label_disagreement(labels, neighbor_rows=rows, k=2).tolist() == raw.tolist()
    assert knn_label_disagreement(labels, neighbor_rows=rows, k=1).tolist() == [0, 0, 1, 1]


def test_a_mislabeled_sample_scores_harder():
    rng = np.random.default_rng(0)
    emb = np.concatenate([rng.normal([5, 0], 0.1, (30, 2)), rng.normal([0, 5], 0.1, (30, 2))])
    labels = np.repeat([0, 1], 30)
    labels[7] = 1
    entry = METRICS["knn_label_disagreement"]
    recorded = {"labels": labels, "neighbor_rows": neighbors(torch.tensor(emb), 20)[1].numpy()}
    hardness = entry.sign * entry.score(recorded)
    assert hardness.argmax() == 7
    assert hardness[7] == 1.0
    assert (entry.sign_origin, entry.labels_used) == ("published", "own")


def test_disagreement_agrees_with_scikit_learn():
    """One less the probability that the other samples' vote gives the sample's own label."""
    rng = np.random.default_rng(0)
    emb, labels = rng.standard_normal((80, 5)), rng.integers(0, 3, 80)
    unit = sklearn_normalize(emb)
    raw = knn_label_disagreement(labels, emb)
    for i in range(80):
        rest = np.arange(80) != i
        vote = KNeighborsClassifier(10).fit(unit[rest], labels[rest]).predict_proba(unit[i : i + 1])
        assert raw[i] == pytest.approx(1 - vote[0, labels[i]])


@given(emb=embeddings(max_samples=12), k=st.integers(1, 12), data=st.data())
def test_disagreement_counts_labels_whatever_they_are_called(emb, k, data):
    labels = data.draw(hnp.arrays(np.int64, len(emb), elements=st.integers(0, 2)))
    raw = knn_label_disagreement(labels, emb, k=k)
    renamed = np.array([17, -3, 5])[labels]
    np.testing.assert_array_equal(knn_label_disagreement(renamed, emb, k=k), raw)
    recorded = neighbors(torch.tensor(emb), 20, normalize=True)[1].numpy().astype(np.int32)
    np.testing.assert_array_equal(knn_label_disagreement(labels, neighbor_rows=recorded, k=k), raw)
    shares = raw * min(k, len(emb) - 1)
    assert len(emb) == 1 or ((raw >= 0) & (raw <= 1) & np.isclose(shares % 1, 0)).all()
    one_class = np.zeros_like(labels)
    np.testing.assert_array_equal(knn_label_disagreement(one_class, emb, k=k), raw * 0)


def test_a_sample_without_an_embedding_neither_votes_nor_is_scored():
    emb = np.array([[0.0], [np.nan], [1.0], [5.0]])
    labels = np.array([0, 1, 0, 1])
    raw = knn_label_disagreement(labels, emb, k=1, normalize=False)
    np.testing.assert_array_equal(raw, [0.0, np.nan, 0.0, 1.0])
    assert np.isnan(knn_label_disagreement(labels[:1], emb[:1])).all()


def test_duplicates_with_different_labels_disagree():
    emb = np.zeros((3, 2))
    assert knn_label_disagreement(np.array([0, 0, 1]), emb).tolist() == [0.5, 0.5, 1.0]


def test_neighbors_of_an_embedding_or_given():
    labels, rows = np.zeros(3, int), np.array([[1], [0], [0]])
    message = "either emb or neighbor_rows; got both or neither"
    with pytest.raises(ValueError, match=message):
        knn_label_disagreement(labels)
    with pytest.raises(ValueError, match=message):
        knn_label_disagreement(labels, np.ones((3, 2)), neighbor_rows=rows)
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        knn_label_disagreement(labels, np.ones((3, 2)), k=0)
    with pytest.raises(ValueError, match=r"one label for each of 3 samples; got \(2,\)"):
        inspect.unwrap(knn_label_disagreement)(labels[:2], neighbor_rows=rows)
