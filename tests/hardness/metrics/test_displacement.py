"""Displacement and norm of embeddings, from snapshots and from recorded signals."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.metrics.displacement import (
    feature_norm_mean,
    feature_norm_std,
    msd_cosine,
    msd_mean,
    msd_std,
)
from hardness.metrics.registry import METRICS
from hardness.signals import embeddings as embedding_signals
from hardness.signals.tracking import EmbeddingTracker
from tests.strategies import embeddings

EPOCHS = st.integers(1, 5)


def recorded(emb):
    """The signals as a run records them: no displacement into the first epoch."""
    norm = np.stack([embedding_signals.feature_norm_from_embeddings(epoch) for epoch in emb])
    msd = np.full(norm.shape, np.nan)
    for e in range(1, len(emb)):
        msd[e] = ((emb[e].astype(np.float64) - emb[e - 1]) ** 2).mean(axis=1)
    return msd, norm


def test_worked_by_hand():
    emb = np.array([[[1.0, 1.0]], [[3.0, 1.0]], [[3.0, 5.0]]])
    assert msd_mean(emb).tolist() == [5.0]
    assert msd_std(emb).tolist() == [3.0]
    assert feature_norm_mean(emb).tolist() == [11.0]
    assert feature_norm_std(emb).tolist() == [6.0]


@given(emb=embeddings(epochs=EPOCHS))
def test_snapshots_and_recorded_signals_agree(emb):
    msd, norm = recorded(emb)
    np.testing.assert_allclose(msd_mean(emb), msd_mean(msd=msd), rtol=1e-12)
    np.testing.assert_allclose(msd_std(emb), msd_std(msd=msd), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(feature_norm_mean(emb), feature_norm_mean(feature_norm=norm))
    np.testing.assert_allclose(
        feature_norm_std(emb), feature_norm_std(feature_norm=norm), rtol=1e-9, atol=1e-12
    )


@given(emb=embeddings(epochs=EPOCHS))
def test_equals_the_definition(emb):
    wide = emb.astype(np.float64)
    for i in range(emb.shape[1]):
        m = [((wide[e, i] - wide[e - 1, i]) ** 2).mean() for e in range(1, len(emb))]
        q = [(wide[e, i] ** 2).mean() for e in range(1, len(emb))] or [(wide[0, i] ** 2).mean()]
        spread = np.std(q) if len(q) > 1 else np.nan
        np.testing.assert_allclose(msd_mean(emb)[i], np.mean(m) if m else np.nan)
        np.testing.assert_allclose(
            msd_std(emb)[i], np.std(m) if len(m) > 1 else np.nan, rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(feature_norm_mean(emb)[i], np.mean(q))
        np.testing.assert_allclose(feature_norm_std(emb)[i], spread, rtol=1e-9, atol=1e-12)


@given(emb=embeddings(epochs=EPOCHS), data=st.data())
def test_a_sample_not_seen_moves_between_the_epochs_at_which_it_was(emb, data):
    """As if the epochs at which it was not seen had not been."""
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=len(emb), max_size=len(emb))))
    everyone = np.repeat(seen[:, None], emb.shape[1], axis=1)
    moved, spread = msd_mean(emb, everyone), msd_std(emb, everyone)
    if seen.any():
        np.testing.assert_array_equal(moved, msd_mean(emb[seen]))
        np.testing.assert_array_equal(spread, msd_std(emb[seen]))
    else:
        assert np.isnan(moved).all()
        assert np.isnan(spread).all()


def test_recorded_displacements_before_the_first_presentation_do_not_count():
    msd = np.array([[np.nan], [7.0], [7.0], [2.0]])
    seen = np.array([[False], [False], [True], [True]])
    assert msd_mean(msd=msd, seen=seen).tolist() == [2.0]


def turn(u, v):
    """One minus the cosine, for one sample; a right angle from a vector without a direction."""
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    if lengths > 0:
        return 1 - u @ v / lengths
    return 1.0 if u.any() or v.any() else 0.0


def recorded_turns(emb):
    """The signal as a run records it, epoch by epoch, whatever the encoder does."""
    tracker = EmbeddingTracker()
    return np.stack([tracker.update(torch.tensor(epoch))["msd_cosine"] for epoch in emb])


def test_turns_worked_by_hand():
    emb = np.array([[[1.0, 0.0]], [[0.0, 3.0]], [[0.0, 1.0]], [[0.0, -1.0]]])
    assert msd_cosine(emb).tolist() == [1.0]  # of 1, 0 and 2
    np.testing.assert_allclose(msd_cosine(emb, spread=True), [np.sqrt(2 / 3)])
    spread = METRICS["msd_cosine.std"].score({"msd_cosine": np.array([[np.nan], [1.0], [0.0]])})
    assert spread.tolist() == [0.5]
    entry = METRICS["msd_cosine"]
    assert (entry.sign, entry.sign_origin, entry.labels_used) == (1, "hypothesis", "none")


@given(emb=embeddings(epochs=EPOCHS))
def test_turns_equal_the_definition(emb):
    wide = emb.astype(np.float64)
    for i in range(emb.shape[1]):
        turns = [turn(wide[e, i], wide[e - 1, i]) for e in range(1, len(emb))]
        mean = np.mean(turns) if turns else np.nan
        spread = np.std(turns) if len(turns) > 1 else np.nan
        np.testing.assert_allclose(msd_cosine(emb)[i], mean, atol=1e-12)
        np.testing.assert_allclose(msd_cosine(emb, spread=True)[i], spread, atol=1e-12)


@given(emb=embeddings(epochs=EPOCHS))
def test_turns_from_snapshots_and_as_recorded_agree(emb):
    recorded = recorded_turns(emb)
    assert recorded.dtype == np.float32
    for spread in (False, True):
        np.testing.assert_allclose(
            msd_cosine(emb, spread=spread),
            msd_cosine(msd_cosine=recorded, spread=spread),
            atol=1e-6,
        )


@given(emb=embeddings(epochs=st.integers(2, 5)), scales=st.data())
def test_turns_do_not_know_the_length(emb, scales):
    factor = st.sampled_from([0.25, 0.5, 2.0, 8.0])
    factors = scales.draw(st.lists(factor, min_size=len(emb), max_size=len(emb)))
    scaled = emb * np.array(factors)[:, None, None]
    raw = msd_cosine(emb)
    np.testing.assert_allclose(msd_cosine(scaled), raw, atol=1e-12)
    assert ((raw >= 0) & (raw <= 2 + 1e-12)).all()


def test_a_small_turn_keeps_its_digits():
    """``1 - cos`` in float32 would be 0, and in float64 half noise."""
    angle = 1e-7
    emb = np.array([[[1.0, 0.0]], [[np.cos(angle), np.sin(angle)]]])
    np.testing.assert_allclose(msd_cosine(emb), [angle**2 / 2], rtol=1e-6)


@given(emb=embeddings(epochs=EPOCHS), data=st.data())
def test_a_sample_not_seen_turns_between_the_epochs_at_which_it_was(emb, data):
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=len(emb), max_size=len(emb))))
    everyone = np.repeat(seen[:, None], emb.shape[1], axis=1)
    turned = msd_cosine(emb, everyone)
    if seen.any():
        np.testing.assert_array_equal(turned, msd_cosine(emb[seen]))
    else:
        assert np.isnan(turned).all()


def test_an_encoder_that_dies_turns_once():
    """To no direction and back is a right angle each, and staying there is none."""
    emb = np.array([[[1.0, 2.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 2.0]]])
    assert msd_cosine(emb).tolist() == [pytest.approx(2 / 3)]
    np.testing.assert_array_equal(recorded_turns(emb)[:, 0], [np.nan, 1, 0, 1])


def test_the_published_bug_is_told_from_displacement():
    """A buffer that stays zero yields the norm: the mean agrees with the wrong metric only."""
    emb = np.random.default_rng(0).standard_normal((6, 30, 8))
    published = ((emb - np.zeros_like(emb)) ** 2).mean(axis=2)
    np.testing.assert_allclose(published[1:].mean(axis=0), feature_norm_mean(emb))
    assert not np.isclose(published[1:].mean(axis=0), msd_mean(emb)).any()


def test_few_epochs():
    emb = np.ones((2, 1, 3))
    assert msd_mean(emb).tolist() == [0.0]
    assert msd_cosine(emb).tolist() == [0.0]
    nothing = msd_std(emb), msd_cosine(emb, spread=True), msd_mean(emb[:1]), msd_cosine(emb[:1])
    for values in (*nothing, feature_norm_std(emb)):
        assert np.isnan(values).all()
    assert feature_norm_mean(emb[:1]).tolist() == [1.0]


def test_a_small_movement_of_a_large_embedding_is_not_lost():
    emb = np.full((3, 1, 64), 1e4, dtype=np.float32)
    emb[1] += np.float32(2**-10)
    assert msd_mean(emb).tolist() == [2.0**-20]


@pytest.mark.parametrize(
    ("function", "signal"),
    [
        (msd_mean, "msd"),
        (msd_std, "msd"),
        (msd_cosine, "msd_cosine"),
        (feature_norm_mean, "feature_norm"),
        (feature_norm_std, "feature_norm"),
    ],
)
def test_exactly_one_input(function, signal):
    with pytest.raises(ValueError, match=f"either emb or {signal}; got both or neither"):
        function()
    with pytest.raises(ValueError, match=f"either emb or {signal}; got both or neither"):
        function(np.ones((2, 1, 1)), **{signal: np.ones((2, 1))})
    with pytest.raises(ValueError, match="expected seen of shape"):
        inspect.unwrap(function)(np.ones((2, 1, 1)), np.ones((2, 2), bool))


@pytest.mark.parametrize("function", [msd_mean, msd_std, msd_cosine])
def test_infinite_embeddings_leave_no_value_and_no_warning(function):
    emb = np.random.default_rng(0).normal(size=(3, 2, 2))
    emb[:, 0] = np.inf
    assert np.isnan(function(emb)).tolist() == [True, False]
