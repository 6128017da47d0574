"""Distance to the nearest k-means centroid."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.preprocessing import normalize

from hardness.metrics import METRICS, prototypicality


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


def test_zero_stays_zero():
    emb = np.vstack([np.zeros((3, 2)), np.full((3, 2), 5.0)])
    assert prototypicality(emb, 2).tolist() == pytest.approx([0.0] * 6, abs=1e-15)


def test_no_cluster_is_refused():
    with pytest.raises(ValueError, match="at least one cluster; came 0"):
        prototypicality(np.eye(3), 0)
