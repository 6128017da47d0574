"""Metrics that average a label's signal over epochs: data maps, margin, loss, error norm."""

import inspect
import math

import numpy as np
import pytest
import torch
from aum import AUMCalculator
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardness import signals
from hardness.metrics import (
    METRICS,
    aum,
    cartography_confidence,
    cartography_correctness,
    cartography_variability,
    el2n,
    mean_loss,
)
from tests.strategies import histories, numbers


def test_worked_by_hand():
    p = np.array([[0.25, 1.0], [0.75, 1.0]])
    assert cartography_confidence(p).tolist() == [0.5, 1.0]
    assert cartography_variability(p).tolist() == [0.25, 0.0]
    assert cartography_correctness(np.array([[True, False], [True, True]])).tolist() == [2, 1]
    assert aum(np.array([[1.0, -4.0], [2.0, 2.0]])).tolist() == [1.5, -1.0]
    loss = np.array([[4.0], [2.0], [1.0], [0.0], [3.0]])
    assert mean_loss(loss).tolist() == [2.0]
    assert mean_loss(loss, over="last").tolist() == [3.0]
    assert mean_loss(loss, over="first_half").tolist() == [3.0]
    assert el2n(np.array([[1.25], [0.5]])).tolist() == [0.5]
    assert el2n(np.array([[1.25], [0.5]]), epoch=0).tolist() == [1.25]


@pytest.mark.parametrize(
    "key", ["cartography_confidence", "cartography_correctness", "aum", "mean_loss", "el2n"]
)
def test_a_mislabeled_sample_scores_harder(key):
    """Twenty epochs in which logits grow toward the true class; one label is another."""
    growth = np.linspace(0.1, 4.0, 20)[:, None, None]
    logits = growth * np.eye(3)[[0, 0]]
    rows = [signals.from_logits(epoch, np.array([0, 1])) for epoch in logits]
    recorded = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    clean, mislabeled = METRICS[key].sign * METRICS[key].score(recorded)
    assert mislabeled > clean


def test_an_undecided_sample_varies_more_than_a_stably_wrong_one():
    p = np.array([[0.1, 0.1], [0.1, 0.9]] * 4)
    assert METRICS["cartography_variability"].measures == "ambiguity"
    wrong, undecided = cartography_variability(p)
    assert undecided > wrong


@given(case=histories(), classes=st.integers(2, 4), data=st.data())
def test_aum_agrees_with_the_authors_package(tmp_path_factory, case, classes, data):
    """Missing epochs included; in batches of two or more, since theirs fails on a batch of one."""
    shape = case[0].shape
    logits = data.draw(hnp.arrays(np.float32, (*shape, classes), elements=numbers()))
    labels = data.draw(hnp.arrays(np.int64, shape[1], elements=st.integers(0, classes - 1)))
    margins = np.stack([signals.label_margin(epoch, labels) for epoch in logits])
    seen = case[1] & (case[1].sum(axis=1, keepdims=True) > 1)

    theirs = AUMCalculator(str(tmp_path_factory.getbasetemp()))
    for epoch, here in zip(logits, seen, strict=True):
        ids = np.flatnonzero(here)
        if len(ids):
            theirs.update(torch.tensor(epoch[ids]), torch.tensor(labels[ids]), ids.tolist())
    expected = [
        theirs.sums[i] / theirs.counts[i] if theirs.counts[i] else math.nan for i in range(shape[1])
    ]
    np.testing.assert_allclose(aum(margins, seen), expected, rtol=1e-5, atol=1e-5)


def test_the_authors_package_fails_on_a_batch_of_one(tmp_path):
    with pytest.raises(TypeError):
        AUMCalculator(str(tmp_path)).update(torch.zeros(1, 2), torch.tensor([0]), [0])
    assert aum(np.array([[0.0]])).tolist() == [0.0]


@given(case=histories(low=0.0, high=1.0))
def test_mean_and_spread_equal_numpy_on_the_seen_entries(case):
    p, seen = case
    for i, (values, here) in enumerate(zip(p.T.astype(np.float64), seen.T, strict=True)):
        shown = values[here]
        mean = shown.mean() if len(shown) else np.nan
        std = shown.std() if len(shown) > 1 else np.nan
        np.testing.assert_allclose(cartography_confidence(p, seen)[i], mean, rtol=1e-12)
        np.testing.assert_allclose(cartography_variability(p, seen)[i], std, atol=1e-15)
        np.testing.assert_allclose(mean_loss(p, seen)[i], mean, rtol=1e-12)


@given(case=histories(bool))
def test_correctness_counts_the_seen_entries(case):
    correct, seen = case
    expected = [
        (c & s).sum() if s.any() else np.nan for c, s in zip(correct.T, seen.T, strict=True)
    ]
    np.testing.assert_array_equal(cartography_correctness(correct, seen), expected)


def test_spread_of_large_values_is_not_lost_to_rounding():
    values = np.array([[1e6], [1e6 + 1], [1e6 + 2]], dtype=np.float32)
    assert cartography_variability(values).tolist() == [pytest.approx(np.sqrt(2 / 3), rel=1e-9)]


def test_spread_needs_two_entries():
    seen = np.array([[True, True], [False, True]])
    assert np.isnan(cartography_variability(np.zeros((2, 2)), seen)).tolist() == [True, False]


@given(case=histories(low=0.0, high=1.0))
def test_bounds(case):
    p, _ = case
    confidence, variability = cartography_confidence(p), cartography_variability(p)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert len(p) == 1 or ((variability >= 0) & (variability <= 0.5 + 1e-12)).all()


def test_an_infinite_loss_stays_infinite():
    assert mean_loss(np.array([[np.inf], [1.0]])).tolist() == [np.inf]


def test_one_epoch_is_its_own_first_half():
    assert mean_loss(np.array([[3.0]]), over="first_half").tolist() == [3.0]


def test_not_seen_in_the_epoch_asked_for_has_no_value():
    seen = np.array([[True], [False]])
    assert np.isnan(el2n(np.ones((2, 1)), seen)).all()
    assert np.isnan(mean_loss(np.ones((2, 1)), seen, over="last")).all()
    assert el2n(np.ones((2, 1)), seen, epoch=0).tolist() == [1.0]


@pytest.mark.parametrize("epoch", [2, -3])
def test_an_epoch_that_is_not_there_is_refused(epoch):
    with pytest.raises(ValueError, match=f"one of 2 epochs; came {epoch}"):
        el2n(np.ones((2, 1)), epoch=epoch)


@pytest.mark.parametrize(
    "function", [cartography_confidence, cartography_variability, aum, mean_loss, el2n]
)
def test_arrays_that_disagree_are_refused(function):
    with pytest.raises(ValueError, match="expected seen of shape"):
        inspect.unwrap(function)(np.ones((2, 3)), np.ones((2, 2), bool))
