"""The loss of a model that never saw the sample, and what is left of one that does."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn.functional import cross_entropy

from hardness.metrics.holdout import irreducible_loss, rho_loss
from hardness.metrics.registry import METRICS
from tests.strategies import histories, numbers

HOLDOUT = np.array([0.5, 4.0, 0.0])
LOSS = np.array([[2.0, 5.0, 0.25], [1.0, 3.0, 0.25]])


def test_worked_by_hand():
    assert irreducible_loss(HOLDOUT).tolist() == [0.5, 4.0, 0.0]
    assert rho_loss(LOSS, HOLDOUT).tolist() == [1.0, 0.0, 0.25]
    assert rho_loss(LOSS, HOLDOUT, epoch=1).tolist() == [0.5, -1.0, 0.25]


def test_the_fifth_epoch_is_the_one_stored_as_four():
    loss = np.arange(12.0).reshape(6, 2)
    recorded = {"own_loss": loss, "holdout_loss": np.zeros(2)}
    assert METRICS["rho_loss.e5"].score(recorded).tolist() == [8.0, 9.0]
    short = {"own_loss": loss[:4], "holdout_loss": np.zeros(2)}
    assert np.isnan(METRICS["rho_loss.e5"].score(short)).all()


def test_a_mislabeled_sample_is_irreducible_and_of_little_use():
    """Clean and not yet learned, clean and learned, mislabeled: the last is lost on both models."""
    recorded = {
        "own_loss": np.array([[2.0, 0.5, 4.0], [1.0, 0.1, 3.0]]),
        "holdout_loss": np.array([0.2, 0.1, 6.0]),
    }
    irreducible = METRICS["irreducible_loss"]
    assert (irreducible.sign * irreducible.score(recorded)).argmax() == 2
    assert irreducible.sign_origin == "published"
    for key in ("rho_loss", "rho_loss.e5"):
        assert METRICS[key].measures == "utility"
        assert METRICS[key].sign_origin == "hypothesis"
    unlearned, learned, mislabeled = METRICS["rho_loss"].score(recorded)
    assert unlearned > learned > 0 > mislabeled


def original(logits, irreducible, labels):
    """OATML/RHO-Loss, reducible_loss_selection: the difference, without a clip."""
    return cross_entropy(logits, labels, reduction="none") - irreducible


@given(data=st.data(), epochs=st.integers(1, 6), samples=st.integers(1, 6))
def test_equals_the_mean_of_the_differences_of_every_epoch(data, epochs, samples):
    logits = data.draw(hnp.arrays(np.float64, (epochs, samples, 3), elements=numbers()))
    labels = torch.tensor(data.draw(hnp.arrays(np.int64, samples, elements=st.integers(0, 2))))
    holdout = data.draw(hnp.arrays(np.float64, samples, elements=numbers(0.0)))
    z, held = torch.tensor(logits), torch.tensor(holdout)
    theirs = torch.stack([original(one, held, labels) for one in z])
    loss = np.stack([cross_entropy(one, labels, reduction="none").numpy() for one in z])
    np.testing.assert_allclose(rho_loss(loss, holdout), theirs.mean(0), atol=1e-9)
    for epoch in range(epochs):
        np.testing.assert_array_equal(rho_loss(loss, holdout, epoch=epoch), theirs[epoch])


@given(case=histories(low=0.0), data=st.data())
def test_only_seen_entries_count(case, data):
    loss, seen = case
    holdout = data.draw(hnp.arrays(np.float32, loss.shape[1], elements=numbers(0.0)))
    scores = rho_loss(loss, holdout, seen)
    for i, here in enumerate(seen.T):
        mean = loss[here, i].astype(np.float64).mean() if here.any() else np.nan
        np.testing.assert_allclose(scores[i], mean - holdout[i], rtol=1e-12, atol=1e-12)
    last = rho_loss(loss, holdout, seen, epoch=-1)
    np.testing.assert_array_equal(np.isnan(last), ~seen[-1])
    blank = np.where(seen, loss, np.float32(np.nan))
    np.testing.assert_array_equal(rho_loss(blank, holdout, seen), scores)


def test_no_holdout_model_means_no_score():
    holdout = np.array([np.nan, 1.0, 1.0])
    assert np.isnan(irreducible_loss(holdout)).tolist() == [True, False, False]
    for epoch in (None, 0):
        assert np.isnan(rho_loss(LOSS, holdout, epoch=epoch)).tolist() == [True, False, False]


def test_an_infinite_loss_on_both_sides_has_no_difference():
    infinite = np.array([np.inf])
    assert rho_loss(infinite[None], np.zeros(1)).tolist() == [np.inf]
    assert np.isnan(rho_loss(infinite[None], infinite)).all()


def test_scores_are_in_double_precision():
    single = np.array([0.1], dtype=np.float32)
    assert irreducible_loss(single).dtype == np.float64
    assert rho_loss(single[None], single).tolist() == [0.0]


def test_arrays_that_disagree_are_refused():
    plain = inspect.unwrap(rho_loss)
    with pytest.raises(ValueError, match=r"holdout_loss of 3 samples; got shape \(2,\)"):
        plain(LOSS, HOLDOUT[:2])
    with pytest.raises(ValueError, match="expected seen of shape"):
        plain(LOSS, HOLDOUT, np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="one epoch or more"):
        plain(LOSS[:0], HOLDOUT)
