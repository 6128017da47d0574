"""Metrics that average a label's signal over epochs: data maps, margin, loss, error norm."""

import inspect
import math

import numpy as np
import pytest
import torch
from aum import AUMCalculator
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardness.metrics.cartography import (
    cartography_confidence,
    cartography_correctness,
    cartography_variability,
    data_iq_aleatoric,
)
from hardness.metrics.error_norm import el2n
from hardness.metrics.history import std_seen
from hardness.metrics.label_margin import aum, aum_pre_decay
from hardness.metrics.loss import mean_loss
from hardness.metrics.registry import METRICS
from hardness.signals import logits as logit_signals
from hardness.training.optimization import learning_rate
from hardness.training.options import TrainOptions
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
    rows = [logit_signals.from_logits(epoch, np.array([0, 1])) for epoch in logits]
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
    margins = np.stack([logit_signals.label_margin_from_logits(epoch, labels) for epoch in logits])
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
    assert std_seen(values, np.ones((3, 1), bool)).tolist() == [
        pytest.approx(np.sqrt(2 / 3), rel=1e-9)
    ]


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
def test_a_run_without_the_epoch_asked_for_has_no_values(epoch):
    assert np.isnan(el2n(np.ones((2, 3)), epoch=epoch)).tolist() == [True] * 3


@pytest.mark.parametrize(("variant", "trained"), [("e1", 1), ("e5", 5), ("e10", 10), ("e20", 20)])
def test_el2n_after_so_many_epochs_of_training(variant, trained):
    """As the authors count: their checkpoint 0 is the untrained network, which has no row here."""
    entry, norms = METRICS[f"el2n.{variant}"], np.arange(1.0, 31.0)[:, None] / 30
    assert entry.score({"el2n": norms}).tolist() == [trained / 30]
    assert entry.score({"el2n": norms[:trained]}).tolist() == [trained / 30]
    if trained > 1:
        assert np.isnan(entry.score({"el2n": norms[: trained - 1]})).all()
    assert METRICS["el2n"].score({"el2n": norms}).tolist() == [1.0]


@pytest.mark.parametrize(
    ("lr", "epochs"),
    [
        ([0.1, 0.1, 0.1, 0.1], 4),
        ([0.1, 0.1, 0.01, 0.01], 2),
        ([0.01, 0.05, 0.1, 0.05], 3),
        ([0.1, 0.09, 0.08, 0.2], 1),
    ],
    ids=["constant", "step", "warm-up", "falls from the start"],
)
def test_the_epochs_before_the_first_decay(lr, epochs):
    margins = np.array([[1.0, -1.0], [2.0, 5.0], [4.0, 0.5], [8.0, -2.0]])
    raw = aum_pre_decay(margins, np.array(lr))
    np.testing.assert_array_equal(raw, aum(margins[:epochs]))
    assert epochs == 4 or (raw != aum(margins)).all()


@pytest.mark.parametrize(
    ("schedule", "epochs"), [("constant", 10), ("cosine", 1), ("one_cycle", 4)]
)
def test_the_epochs_before_the_first_decay_of_our_schedules(schedule, epochs):
    """One cycle rises over 30 % of the steps, so that the epoch that starts at the peak counts."""
    options = TrainOptions(max_epochs=10, schedule=schedule)
    lr = np.array([learning_rate(7 * epoch, 70, options) for epoch in range(10)])
    margins = np.random.default_rng(0).standard_normal((10, 5))
    np.testing.assert_array_equal(aum_pre_decay(margins, lr), aum(margins[:epochs]))


@given(case=histories(), data=st.data())
def test_before_the_first_decay_it_is_aum(case, data):
    margins, seen = case
    steps = data.draw(hnp.arrays(float, len(margins), elements=st.sampled_from([0.1, 0.2, 0.3])))
    before = 1
    while before < len(steps) and steps[before] >= steps[before - 1]:
        before += 1
    expected = aum(margins[:before], seen[:before])
    np.testing.assert_array_equal(aum_pre_decay(margins, steps, seen), expected)


def test_a_run_that_did_not_record_its_rate_has_no_aum_before_the_decay():
    margins = np.ones((3, 2))
    assert np.isnan(aum_pre_decay(margins, np.full(3, np.nan))).all()
    assert np.isnan(aum_pre_decay(margins, np.array([0.1, np.nan, 0.1]))).all()
    with pytest.raises(ValueError, match=r"expected lr of 3 epochs; got shape \(2,\)"):
        inspect.unwrap(aum_pre_decay)(margins, np.ones(2))


def test_a_sample_that_is_memorized_after_the_decay_scores_harder_before_it():
    margins = np.array([[3.0, -3.0], [4.0, -4.0], [5.0, 15.0], [6.0, 17.0]])
    recorded = {"label_margin": margins, "lr": np.array([0.1, 0.1, 0.01, 0.01])}
    clean, mislabeled = METRICS["aum_pre_decay"].sign * METRICS["aum_pre_decay"].score(recorded)
    assert mislabeled > clean
    clean, mislabeled = METRICS["aum"].sign * METRICS["aum"].score(recorded)
    assert mislabeled < clean


def test_aleatoric_uncertainty_by_hand():
    p = np.array([[0.5, 0.25, 0.0], [1.0, 0.75, 0.0]])
    assert data_iq_aleatoric(p).tolist() == [0.125, 0.1875, 0.0]


def test_a_confidently_wrong_sample_is_not_ambiguous():
    p = np.array([[0.01, 0.5, 0.99]] * 3)
    wrong, undecided, right = data_iq_aleatoric(p)
    assert undecided == 0.25
    assert wrong == pytest.approx(right)
    assert METRICS["data_iq_aleatoric"].measures == "ambiguity"
    assert METRICS["data_iq_aleatoric"].sign * (undecided - wrong) > 0


@given(case=histories(low=0.0, high=1.0))
def test_aleatoric_uncertainty_equals_the_authors_formula(case):
    """And, by the moments of p, what confidence and variability leave of it."""
    p, seen = case
    raw = data_iq_aleatoric(p, seen)
    for i, (values, here) in enumerate(zip(p.T.astype(np.float64), seen.T, strict=True)):
        shown = values[here]
        expected = np.mean(shown * (1 - shown)) if len(shown) else np.nan
        np.testing.assert_allclose(raw[i], expected, rtol=1e-12, atol=1e-15)
    everywhere = data_iq_aleatoric(p)
    assert ((everywhere >= 0) & (everywhere <= 0.25)).all()
    if len(p) > 1:
        mean, std = cartography_confidence(p), cartography_variability(p)
        np.testing.assert_allclose(everywhere, mean * (1 - mean) - std**2, atol=1e-12)


def test_aleatoric_uncertainty_is_not_lost_to_single_precision():
    near_one = np.full((2, 1), np.float32(1) - np.float32(2**-24))
    assert data_iq_aleatoric(near_one).tolist() == [pytest.approx(2.0**-24, rel=1e-6)]


def allenai(p, correct, burn_out, *, include_ci):
    """train_dy_filtering.py for one sample."""
    p, correct = p[:burn_out], correct[:burn_out]
    spread = np.std(p)
    if include_ci:
        spread = np.sqrt(np.var(p) + np.var(p) * np.var(p) / (len(p) - 1))
    return np.mean(p), spread, sum(correct)


@given(case=histories(low=0.0, high=1.0), burn_out=st.integers(2, 8), include_ci=st.booleans())
def test_burn_out_and_active_bias_agree_with_the_authors(case, burn_out, include_ci):
    p, correct = case
    assume(len(p) > 1)
    options = {"burn_out": burn_out}
    found = (
        cartography_confidence(p, **options),
        cartography_variability(p, active_bias=include_ci, **options),
        cartography_correctness(correct, **options),
    )
    for i, (values, right) in enumerate(zip(p.T.astype(np.float64), correct.T, strict=True)):
        expected = allenai(values, right, burn_out, include_ci=include_ci)
        np.testing.assert_allclose([f[i] for f in found], expected, rtol=1e-9, atol=1e-12)


def test_active_bias_counts_the_epochs_seen():
    p = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.5]])
    seen = np.array([[True, True], [True, True], [False, True]])
    two, three = cartography_variability(p, seen, active_bias=True)
    assert two == pytest.approx(np.sqrt(0.25 + 0.25**2 / 1))
    assert three == pytest.approx(np.sqrt(1 / 6 + (1 / 6) ** 2 / 2))


def test_correctness_as_a_share_of_the_epochs_seen():
    correct = np.array([[True, False, True], [True, True, True]])
    seen = np.array([[True, True, False], [False, True, False]])
    share = METRICS["cartography_correctness.share"].score({"correct": correct})
    assert share.tolist() == [1.0, 0.5, 1.0]
    np.testing.assert_array_equal(
        cartography_correctness(correct, seen, share=True), [1.0, 0.5, np.nan]
    )


@pytest.mark.parametrize(
    "function", [cartography_confidence, cartography_variability, cartography_correctness]
)
def test_a_burn_out_of_no_epochs_is_refused(function):
    with pytest.raises(ValueError, match="burn_out of at least 1 epoch; got 0"):
        inspect.unwrap(function)(np.ones((2, 2), bool), burn_out=0)


@pytest.mark.parametrize(
    "function",
    [cartography_confidence, cartography_variability, data_iq_aleatoric, aum, mean_loss, el2n],
)
def test_arrays_that_disagree_are_refused(function):
    with pytest.raises(ValueError, match="expected seen of shape"):
        inspect.unwrap(function)(np.ones((2, 3)), np.ones((2, 2), bool))
