"""Distance to the nearest k-means centroid, or to the mean of the given class."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from hardness.comparison.stability import spearman_pair_mean
from hardness.metrics.prototypes import (
    prototypicality,
    prototypicality_of_random_states,
    prototypicality_supervised,
)
from hardness.metrics.registry import METRICS
from tests.strategies import embeddings


@pytest.fixture(scope="module")
def emb():
    return make_blobs(120, 6, centers=4, random_state=0)[0].astype(np.float32)


def test_worked_by_hand():
    tilted = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0], [-3.0, 0.0]])
    half = np.sqrt(0.5)
    assert prototypicality(tilted, 2).tolist() == pytest.approx([half, half, 0.0, 0.0])


@pytest.mark.parametrize("per_class", [1, 10])
def test_agrees_with_scikit_learn(emb, per_class):
    scaled = normalize(emb.astype(np.float64))
    kmeans = KMeans(4 * per_class, n_init=10, random_state=0).fit(scaled)
    expected = kmeans.transform(scaled).min(axis=1)
    raw = prototypicality(emb, 4, clusters_per_class=per_class)
    np.testing.assert_allclose(raw, expected, atol=1e-7)


def test_a_sample_between_the_groups_scores_harder():
    rng = np.random.default_rng(0)
    east, north = rng.normal([9, 0], 0.1, (30, 2)), rng.normal([0, 9], 0.1, (30, 2))
    entry = METRICS["prototypicality"]
    signals = {"emb": np.concatenate([east, north, [[5.0, 5.0]]]), "n_classes": 2}
    assert (entry.sign * entry.score(signals)).argmax() == 60


def test_length_does_not_matter(emb):
    scaled = emb * np.float32(2.0) ** np.arange(-3, 3).repeat(20)[:, None].astype(np.float32)
    np.testing.assert_allclose(prototypicality(scaled, 4), prototypicality(emb, 4), atol=1e-6)


def test_another_random_state_may_settle_elsewhere(emb):
    one, two = (prototypicality(emb, 20, random_state=s) for s in (0, 1))
    assert not np.array_equal(one, two)


def test_the_last_epoch_counts(emb):
    epochs = np.stack([emb[::-1], emb])
    np.testing.assert_array_equal(prototypicality(epochs, 4), prototypicality(emb, 4))


def test_fewer_samples_than_clusters_have_no_score():
    assert np.isnan(prototypicality(np.eye(3), 4)).all()
    holes = np.vstack([np.eye(3), np.full((2, 3), np.nan)])
    assert np.isnan(prototypicality(holes, 4)).all()
    assert np.isnan(prototypicality(holes, 3)).tolist() == [False] * 3 + [True] * 2


def test_fewer_distinct_samples_than_clusters_are_their_own_prototypes():
    assert prototypicality(np.repeat(np.eye(2), 3, axis=0), 4).tolist() == [0.0] * 6


def test_a_number_of_classes_may_come_from_the_labels(emb):
    counted = np.array([0, 2, 1]).max() + 1
    np.testing.assert_array_equal(prototypicality(emb, counted), prototypicality(emb, 3))


def test_zero_stays_zero():
    emb = np.vstack([np.zeros((3, 2)), np.full((3, 2), 5.0)])
    assert prototypicality(emb, 2).tolist() == pytest.approx([0.0] * 6, abs=1e-15)


def test_no_cluster_is_refused():
    with pytest.raises(ValueError, match="at least one cluster; got 0"):
        prototypicality(np.eye(3), 0)


def test_random_states_give_rows_for_stability(emb):
    scores = prototypicality_of_random_states(emb, 20, states=4)
    assert scores.shape == (4, 120)
    for state, row in enumerate(scores):
        np.testing.assert_array_equal(row, prototypicality(emb, 20, random_state=state))
    assert 0.5 < spearman_pair_mean(scores).value < 1
    ten = prototypicality_of_random_states(emb, 2, clusters_per_class=10, states=1)
    np.testing.assert_array_equal(ten[0], scores[0])


def test_distance_to_the_class_mean_worked_by_hand():
    """The mean of two at a right angle has length 0.7, and stays so."""
    emb = np.array([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -2.0]])
    half = np.sqrt(0.5)
    raw = prototypicality_supervised(emb, np.array([0, 0, 1, 2]))
    assert raw.tolist() == pytest.approx([half, half, 0.0, 0.0])
    plain = prototypicality_supervised(emb, np.array([0, 0, 0, 2]), normalize=False)
    means = np.array([2 / 3, 1 / 3])
    assert plain.tolist() == pytest.approx([*np.linalg.norm(emb[:3] - means, axis=1), 0.0])


def test_a_mislabeled_sample_is_far_from_its_class():
    rng = np.random.default_rng(0)
    east, north = rng.normal([9, 0], 0.3, (30, 2)), rng.normal([0, 9], 0.3, (30, 2))
    labels = np.repeat([0, 1], 30)
    labels[5] = 1
    entry = METRICS["prototypicality_supervised"]
    recorded = {"emb": np.concatenate([east, north]), "labels": labels}
    assert (entry.sign * entry.score(recorded)).argmax() == 5
    assert (entry.family, entry.sign_origin) == ("supervised", "published")
    assert (entry.labels_used, entry.measures) == ("own", "hardness")


def test_class_means_agree_with_scikit_learn(emb):
    labels = np.random.default_rng(0).integers(0, 4, len(emb))
    scaled = normalize(emb.astype(np.float64))
    centroids = NearestCentroid().fit(scaled, labels).centroids_
    expected = np.linalg.norm(scaled - centroids[labels], axis=1)
    np.testing.assert_allclose(prototypicality_supervised(emb, labels), expected, rtol=1e-9)


def test_classes_that_are_the_clusters_give_prototypicality(emb):
    kmeans = KMeans(4, n_init=10, random_state=0).fit(normalize(emb.astype(np.float64)))
    raw = prototypicality_supervised(emb, kmeans.labels_)
    np.testing.assert_allclose(raw, prototypicality(emb, 4), atol=1e-4)


@given(emb=embeddings(), data=st.data())
def test_distance_to_the_class_mean_whatever_classes_are_called(emb, data):
    labels = data.draw(hnp.arrays(np.int64, len(emb), elements=st.integers(0, 2)))
    raw = prototypicality_supervised(emb, labels)
    renamed = np.array([17, -3, 5])[labels]
    np.testing.assert_allclose(prototypicality_supervised(emb, renamed), raw, atol=1e-12)
    assert ((raw >= 0) & (raw <= 2)).all()
    alone = np.bincount(labels, minlength=3)[labels] == 1
    assert (raw[alone] == 0).all()
    shuffled = np.random.default_rng(0).permutation(len(emb))
    again = prototypicality_supervised(emb[shuffled], labels[shuffled])
    np.testing.assert_allclose(again, raw[shuffled], atol=1e-12)


def test_other_classes_do_not_move_a_class(emb):
    labels = np.arange(120) % 3
    moved = np.where((labels == 2)[:, None], 5.0 - emb, emb)
    before, after = (prototypicality_supervised(e, labels) for e in (emb, moved))
    np.testing.assert_array_equal(after[labels != 2], before[labels != 2])


def test_what_is_not_finite_enters_no_class_mean():
    emb = np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, 1.0], [0.0, 1.0]])
    raw = prototypicality_supervised(emb, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(raw, [0.0, np.nan, 0.0, 0.0])
    assert np.isnan(prototypicality_supervised(emb[1:2], np.array([0]))).all()


def test_labels_and_embeddings_have_to_match(emb):
    with pytest.raises(ValueError, match=r"one label for each of 120 samples; got \(3,\)"):
        inspect.unwrap(prototypicality_supervised)(emb, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"emb \[samples, width\] or \[epochs, samples, width\]"):
        prototypicality_supervised(np.ones(3), np.zeros(3, int))


def test_above_two_hundred_thousand_samples_it_is_clustered_in_mini_batches():
    groups = np.random.default_rng(0).normal(size=(200_001, 2)) * 0.3 + [[4, 0]]
    groups[::2] = groups[::2, ::-1]
    few = prototypicality(groups[:-1], 2)
    many = prototypicality(groups, 2)
    kmeans = MiniBatchKMeans(2, n_init=1, batch_size=16_384, random_state=0)
    expected = kmeans.fit(normalize(groups)).transform(normalize(groups)).min(axis=1)
    np.testing.assert_allclose(many, expected, atol=1e-7)
    assert not np.array_equal(many[:-1], few)
    # Near what all samples at once give.
    np.testing.assert_allclose(many[:-1], few, atol=0.01)
