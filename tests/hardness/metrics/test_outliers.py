"""Outlier scores against scikit-learn, and where the recorded graph takes its place."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import normalize as sklearn_normalize

from hardness.metrics.outliers import isolation_forest, lof
from hardness.metrics.registry import METRICS
from hardness.signals.neighbors import neighbors
from tests.strategies import embeddings

KEYS = ("lof", "isolation_forest")


@pytest.fixture(scope="module")
def emb():
    return np.random.default_rng(0).standard_normal((150, 6)).astype(np.float32)


def recorded(emb, dtype=np.float32):
    """What a run keeps of its neighbors, and the embedding."""
    distances, rows = neighbors(torch.tensor(emb), 20, normalize=True)
    return {
        "emb": emb,
        "neighbor_distances": distances.numpy().astype(dtype),
        "neighbor_rows": rows.numpy().astype(np.int32),
    }


def slow_lof(emb, k):
    """Breunig et al., definitions 3 to 7, for samples whose distances all differ."""
    distance = np.linalg.norm(emb[:, None] - emb, axis=2)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :k]
    border = np.sort(distance, axis=1)[:, k - 1]
    density = [
        1 / np.mean([max(border[o], distance[p, o]) for o in near[p]]) for p in range(len(emb))
    ]
    return [np.mean([density[o] / density[p] for o in near[p]]) for p in range(len(emb))]


def test_worked_by_hand():
    """Densities 2/3, 1/2, 2/3 and 2/15."""
    emb = np.array([[0.0], [1.0], [2.0], [9.0]])
    expected = [7 / 8, 4 / 3, 7 / 8, 35 / 8]
    np.testing.assert_allclose(lof(emb, k=2, normalize=False), expected, rtol=1e-9)
    rows = np.array([[1, 2], [0, 2], [1, 0], [2, 1]])
    distances = np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 2.0], [7.0, 8.0]])
    given_graph = lof(neighbor_distances=distances, neighbor_rows=rows)
    np.testing.assert_allclose(given_graph, expected, rtol=1e-9)


@pytest.mark.parametrize("key", KEYS)
def test_a_sample_apart_scores_harder(key):
    rng = np.random.default_rng(0)
    emb = rng.normal([9.0, 0.0, 0.0], 0.3, (80, 3))
    emb[11] = [0.0, 9.0, 0.0]
    entry = METRICS[key]
    assert (entry.sign * entry.score(recorded(emb))).argmax() == 11
    assert (entry.sign_origin, entry.labels_used, entry.measures) == (
        "published", "none", "hardness",
    )  # fmt: skip


@pytest.mark.parametrize("samples", [150, 12])
def test_lof_agrees_with_scikit_learn(emb, samples):
    emb = emb[:samples]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_neighbors")  # fewer samples: cut, as here
        theirs = LocalOutlierFactor(n_neighbors=20).fit(sklearn_normalize(emb.astype(float)))
    np.testing.assert_allclose(lof(emb), -theirs.negative_outlier_factor_, rtol=1e-9)
    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-5)):
        raw = METRICS["lof"].score(recorded(emb, dtype))
        np.testing.assert_allclose(raw, -theirs.negative_outlier_factor_, rtol=tolerance)


@pytest.mark.parametrize("duplicated", [3, 40])
def test_lof_of_duplicates_agrees_with_scikit_learn(emb, duplicated):
    """More than k of them have the density 1e10 there and here, and are ordinary to each other."""
    emb = np.concatenate([emb, np.repeat(emb[:1], duplicated, axis=0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate values")
        theirs = LocalOutlierFactor(n_neighbors=20).fit(sklearn_normalize(emb.astype(float)))
    raw = lof(emb)
    np.testing.assert_allclose(raw, -theirs.negative_outlier_factor_, rtol=1e-6)
    assert np.isfinite(raw).all()
    assert raw[0] == pytest.approx(1.0, rel=0.5)


@pytest.mark.parametrize("k", [1, 4, 20])
def test_lof_equals_the_paper_where_distances_differ(emb, k):
    np.testing.assert_allclose(lof(emb, k=k, normalize=False), slow_lof(emb, k), rtol=1e-5)


@given(emb=embeddings(max_samples=12), k=st.integers(1, 12))
def test_lof_is_positive_and_finite_whatever_ties(emb, k):
    raw = lof(emb, k=k)
    if len(emb) > 1:
        assert np.isfinite(raw).all()
        assert (raw > 0).all()
    else:
        assert np.isnan(raw).all()


def test_lof_inside_an_even_group_is_one():
    ring = np.arange(60) * 2 * np.pi / 60
    raw = lof(np.stack([np.cos(ring), np.sin(ring)], axis=1))
    np.testing.assert_allclose(raw, 1.0, rtol=1e-6)


@pytest.mark.parametrize("function", [lof, isolation_forest])
def test_length_does_not_matter_unless_asked_for(emb, function):
    scaled = emb * np.float32(2.0) ** np.arange(-2, 3).repeat(30)[:, None].astype(np.float32)
    np.testing.assert_allclose(function(scaled), function(emb), rtol=1e-9)
    assert not np.allclose(function(scaled, normalize=False), function(emb, normalize=False))


def test_isolation_forest_agrees_with_scikit_learn(emb):
    x = sklearn_normalize(emb.astype(float))
    theirs = IsolationForest(n_estimators=100, random_state=0).fit(x).score_samples(x)
    np.testing.assert_allclose(isolation_forest(emb), -theirs, rtol=1e-12)
    other = IsolationForest(n_estimators=100, random_state=3).fit(x).score_samples(x)
    np.testing.assert_allclose(isolation_forest(emb, random_state=3), -other, rtol=1e-12)


def test_another_forest_gives_another_score_that_resembles_the_first(emb):
    one, two = isolation_forest(emb), isolation_forest(emb, random_state=1)
    assert not np.array_equal(one, two)
    assert np.corrcoef(one, two)[0, 1] > 0.4
    assert ((one > 0) & (one < 1)).all()


def test_the_last_epoch_counts(emb):
    epochs = np.stack([emb[::-1], emb])
    for function in (lof, isolation_forest):
        np.testing.assert_array_equal(function(epochs), function(emb))


def test_what_is_not_finite_has_no_score_and_disturbs_none(emb):
    spoiled = np.concatenate([emb[:40], np.full((1, 6), np.nan, np.float32), emb[40:]])
    for function in (lof, isolation_forest):
        raw = function(spoiled)
        assert np.isnan(raw).nonzero()[0].tolist() == [40]
        np.testing.assert_array_equal(np.delete(raw, 40), function(emb))
    raw = METRICS["lof"].score(recorded(spoiled))
    assert np.isnan(raw).nonzero()[0].tolist() == [40]


@pytest.mark.parametrize("function", [lof, isolation_forest])
def test_a_single_sample_has_no_score(function):
    assert np.isnan(function(np.ones((1, 3)))).all()
    assert np.isfinite(function(np.ones((2, 3)))).all()


def test_arguments_that_make_no_sense_are_refused(emb):
    graph = {k: v for k, v in recorded(emb).items() if k != "emb"}
    message = (
        "expected emb alone or both neighbor_distances and neighbor_rows; got neither or a mix"
    )
    for wrong in ({}, {"emb": emb, **graph}, {"neighbor_rows": graph["neighbor_rows"]}):
        with pytest.raises(ValueError, match=message):
            lof(**wrong)
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        lof(emb, k=0)
    for function in (lof, isolation_forest):
        with pytest.raises(
            ValueError, match=r"emb \[samples, width\] or \[epochs, samples, width\]"
        ):
            function(np.ones(3))
