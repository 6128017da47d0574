"""Norms and variance of gradients: hand computations, planted samples, agreement."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics.record import Recording
from hardness.metrics import gradients
from hardness.metrics.registry import METRICS
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised
from tests.strategies import histories, numbers

LAST = ("grand", "grand_last_layer", "vog", "vog_prob")
SAMPLES, PLANTED = 480, 48


def unchecked(function):
    """The function without the suite's shape checks, as a user calls it."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("key", LAST)
def test_the_last_of_the_epochs_that_were_scored_counts(key):
    values = np.array([[0.25, 4.0], [0.75, 1.0]], dtype=np.float32)
    assert METRICS[key].score({key: values}).tolist() == [0.75, 1.0]
    assert METRICS[key].score({key: values[:1]}).tolist() == [0.25, 4.0]
    seen = np.array([[True, True], [True, False]])
    np.testing.assert_array_equal(METRICS[key].function(values, seen), [0.75, np.nan])


@given(case=histories(low=0.0))
def test_the_mean_over_epochs_is_that_of_the_seen_ones(case):
    values, seen = case
    found = gradients.grand_last_layer(values, seen, over="all")
    for i, here in enumerate(seen.T):
        expected = values[here, i].astype(np.float64).mean() if here.any() else np.nan
        np.testing.assert_allclose(found[i], expected, rtol=1e-12)


@pytest.mark.parametrize("key", [*LAST, "vog_class_z"])
def test_their_papers_call_large_values_hard(key):
    assert (METRICS[key].sign, METRICS[key].sign_origin) == (1, "published")
    assert METRICS[key].labels_used == "own"


def test_variants_read_the_thirds_of_the_training():
    recorded = {"vog": 1.0, "vog.early": 2.0, "vog.late": 3.0, "vog_prob": 4.0}
    found = {name: np.array([[value]], dtype=np.float32) for name, value in recorded.items()}
    for key, value in recorded.items():
        assert METRICS[key].score(found).tolist() == [value]


# Within the given class


def test_class_z_worked_by_hand():
    """Class 0 has values 1, 3, 8: mean 4, variance 26/3; class 1 has 2 and 6."""
    vog, labels = np.array([[1.0, 2.0, 3.0, 6.0, 8.0]]), np.array([0, 1, 0, 1, 0])
    spread = math.sqrt(26 / 3)
    expected = [-3 / spread, -1.0, -1 / spread, 1.0, 4 / spread]
    np.testing.assert_allclose(gradients.vog_class_z(vog, labels), expected, rtol=1e-12)


def test_class_z_has_the_population_spread_of_the_authors():
    """NumPy's default, ``ddof=0``; pandas' would shrink scores of small classes."""
    vog, labels = np.array([[1.0, 2.0, 4.0]]), np.zeros(3, dtype=np.int64)
    np.testing.assert_allclose(gradients.vog_class_z(vog, labels), stats.zscore(vog[0]), rtol=1e-12)
    assert not np.allclose(gradients.vog_class_z(vog, labels), stats.zscore(vog[0], ddof=1))


@given(data=st.data())
def test_class_z_agrees_with_scipy_and_has_mean_0_and_spread_1(data):
    n = data.draw(st.integers(1, 12))
    values = np.array(data.draw(st.lists(numbers(0.0, 9.0), min_size=n, max_size=n)))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    found = gradients.vog_class_z(values[None], labels)
    for label in np.unique(labels):
        mine = labels == label
        if mine.sum() == 1:
            assert np.isnan(found[mine]).all()
        elif len(np.unique(values[mine])) == 1:
            assert (found[mine] == 0).all()
        else:
            assume(np.ptp(values[mine]) > 1e-6)
            np.testing.assert_allclose(found[mine], stats.zscore(values[mine]), atol=1e-6)
            np.testing.assert_allclose(found[mine].mean(), 0, atol=1e-6)
            np.testing.assert_allclose(found[mine].std(), 1, rtol=1e-6)
    np.testing.assert_allclose(gradients.vog_class_z(2 * values[None], labels), found, atol=1e-6)


def test_a_class_of_one_sample_or_of_equal_values():
    """No spread is missing; equal values are 0, though rounding leaves some spread of theirs."""
    vog = np.array([[0.1, 0.1, 0.1, 5.0, 2.0, 4.0]])
    found = gradients.vog_class_z(vog, np.array([3, 3, 3, 1, 0, 0]))
    np.testing.assert_array_equal(found, [0, 0, 0, np.nan, -1, 1])


def test_a_sample_without_a_value_leaves_its_class_alone():
    vog, labels = np.array([[1.0, np.nan, 3.0, 5.0, 7.0]]), np.array([0, 0, 0, 1, 1])
    np.testing.assert_array_equal(gradients.vog_class_z(vog, labels), [-1, np.nan, 1, -1, 1])
    seen = np.array([[True, False, True, True, True]])
    vog[0, 1] = 100.0
    np.testing.assert_array_equal(gradients.vog_class_z(vog, labels, seen), [-1, np.nan, 1, -1, 1])


def test_labels_of_other_samples_are_refused():
    with pytest.raises(ValueError, match=r"one label for each of 2 samples; got \(3,\)"):
        unchecked(gradients.vog_class_z)(np.ones((1, 2)), np.zeros(3, dtype=int))


# Planted samples


@pytest.fixture(scope="module")
def digits():
    """480 digits in no order, the first 48 of which get planted."""
    dataset = load(DatasetOptions(name="digits", subset=600), 0.2)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(dataset, train=dataset.train.take(order))


def signals_of(dataset, model, **changed):
    """What twelve epochs of a training record, scored in some of them."""
    planted = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, **changed))
    chosen = Supervised(train=TrainOptions(max_epochs=12, batch_size=64, lr=0.1))
    recording = Recording(passes=("grand", "vog"), score_epochs=(4, -1))
    records = supervised(planted, model, chosen, Streams(seed=0), recording=recording)
    found = [record.signals for record in records]
    return {k: np.stack([s[k] for s in found if k in s]) for k in found[-1]} | {
        "labels": planted.train.labels.numpy()
    }


def auroc(key, recorded):
    """Of the planted samples' hardness against the others'."""
    hardness = METRICS[key].sign * METRICS[key].score(recorded)
    return roc_auc_score(np.arange(SAMPLES) < PLANTED, hardness)


MODELS = (ModelOptions(width=8), ModelOptions(name="mlp", width=32))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_mislabeled_samples_have_larger_gradients(digits, model):
    """Already in the fifth epoch; the variance of input gradients does not find them."""
    labels = digits.train.labels.clone()
    offsets = torch.randint(1, 10, (PLANTED,), generator=torch.Generator().manual_seed(0))
    labels[:PLANTED] = (labels[:PLANTED] + offsets) % 10
    recorded = signals_of(digits, model, labels=labels)
    for key in ("grand", "grand_last_layer"):
        assert auroc(key, recorded) > 0.95
        early = {name: values[:-1] for name, values in recorded.items() if name == key}
        assert auroc(key, early) > 0.95
    assert auroc("grand_last_layer.mean", recorded) > 0.95
    assert auroc("vog", recorded) < 0.5


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_images_that_show_two_digits_have_gradients_that_vary_more(digits, model):
    images = digits.train.images.clone()
    mixed = (images[:PLANTED].int() + images[PLANTED : 2 * PLANTED].int()) // 2
    images[:PLANTED] = mixed.to(torch.uint8)
    recorded = signals_of(digits, model, images=images)
    assert auroc("vog", recorded) > 0.55
    assert auroc("vog_class_z", recorded) > 0.6
    assert auroc("vog_prob", recorded) > 0.8
    assert auroc("vog_class_z.prob", recorded) > 0.8


def test_of_the_probability_it_is_another_order_than_of_the_logit(digits):
    """Ours is the logit, as in the authors' ImageNet code; their toy script, H-CAT and
    nn_example_difficulty take the probability.
    """
    recorded = signals_of(digits, MODELS[0])
    logit, probability = (METRICS[key].score(recorded) for key in ("vog", "vog_prob"))
    assert abs(stats.spearmanr(logit, probability).statistic) < 0.7
