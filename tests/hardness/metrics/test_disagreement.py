"""Dropout's draws and a configuration's runs: sure or not, together or each for itself."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import entr, softmax
from sklearn.metrics import roc_auc_score

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics.record import Recording
from hardness.metrics import disagreement
from hardness.metrics.disagreement import MEMBERS, ensembles
from hardness.metrics.registry import METRICS
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised
from tests.strategies import histories, numbers

DROPOUT = ("mc_dropout_entropy", "mc_dropout_bald")
ENSEMBLE = ("ensemble_entropy", "ensemble_mi")
SURE = 20.0


def unchecked(function):
    """The function without the suite's shape checks, as a user calls it."""
    return inspect.unwrap(function)


def one_hot(*classes, n=3):
    """Logits of members that are sure of these classes, of one sample."""
    return SURE * np.eye(n)[list(classes)][:, None]


@st.composite
def members(draw):
    """``logits[members, samples, classes]``."""
    shape = draw(st.tuples(st.integers(3, 6), st.integers(1, 5), st.integers(1, 5)))
    return draw(hnp.arrays(np.float32, shape, elements=numbers()))


# Dropout


@pytest.mark.parametrize("key", DROPOUT)
def test_dropout_worked_by_hand(key):
    values = np.array([[0.25, 0.5], [0.75, 1.0]], dtype=np.float32)
    assert METRICS[key].score({key: values}).tolist() == [0.75, 1.0]
    assert METRICS[f"{key}.mean"].score({key: values}).tolist() == [0.5, 0.75]


@pytest.mark.parametrize("key", DROPOUT)
@given(case=histories(low=0.0, high=1.0))
def test_the_last_epoch_and_the_mean_of_the_seen_ones(key, case):
    values, seen = case
    function = METRICS[key].function
    np.testing.assert_array_equal(function(values, seen), np.where(seen[-1], values[-1], np.nan))
    for i, here in enumerate(seen.T):
        expected = values[here, i].astype(np.float64).mean() if here.any() else np.nan
        np.testing.assert_allclose(function(values, seen, over="all")[i], expected, rtol=1e-12)


@pytest.mark.parametrize("key", DROPOUT)
def test_a_network_without_dropout_has_no_score(key):
    nothing = np.full((2, 3), np.nan, dtype=np.float32)
    assert np.isnan(METRICS[key].score({key: nothing})).all()
    assert np.isnan(METRICS[f"{key}.mean"].score({key: nothing})).all()


@pytest.mark.parametrize(
    "model", [ModelOptions(width=8), ModelOptions(name="mlp", width=32)], ids=lambda m: m.name
)
def test_images_that_show_two_digits_are_harder(model):
    """Planted: of 480 digits the first 48 of a random order are mixed with the next 48."""
    dataset = load(DatasetOptions(name="digits", subset=600), 0.2)
    order = torch.randperm(480, generator=torch.Generator().manual_seed(0))
    train = dataset.train.take(order)
    images = train.images.clone()
    images[:48] = ((images[:48].int() + images[48:96].int()) // 2).to(torch.uint8)
    planted = dataclasses.replace(dataset, train=dataclasses.replace(train, images=images))
    chosen = Supervised(train=TrainOptions(max_epochs=10, batch_size=64, lr=0.1))
    recording = Recording(passes=("mc_dropout",))
    *_, record = supervised(planted, model, chosen, Streams(seed=0), recording=recording)
    for key in DROPOUT:
        hardness = METRICS[key].sign * METRICS[key].score({key: record.signals[key][None]})
        assert roc_auc_score(np.arange(480) < 48, hardness) > 0.7


@pytest.mark.parametrize("key", [*DROPOUT, *ENSEMBLE])
def test_their_papers_call_large_values_uncertain(key):
    assert (METRICS[key].sign, METRICS[key].sign_origin) == (1, "published")
    assert METRICS[key].labels_used == "none"
    assert METRICS[key].scope == ("seeds" if key in ENSEMBLE else "run")


# Ensembles


def test_runs_that_are_sure_of_different_classes_disagree():
    """Sure and together, sure and apart, undecided and together."""
    logits = np.concatenate(
        [one_hot(0, 0, 0), one_hot(0, 1, 2), np.zeros((3, 1, 3)), one_hot(0, 0, 1)], axis=1
    )
    of_two = math.log(3) - 2 / 3 * math.log(2)
    entropy, mi = disagreement.ensemble_entropy(logits), disagreement.ensemble_mi(logits)
    np.testing.assert_allclose(entropy, [0, math.log(3), math.log(3), of_two], atol=1e-6)
    np.testing.assert_allclose(mi, [0, math.log(3), 0, of_two], atol=1e-6)


@given(logits=members())
def test_ensembles_agree_with_the_definition(logits):
    p = softmax(logits.astype(np.float64), axis=2)
    entropy, mi = disagreement.ensemble_entropy(logits), disagreement.ensemble_mi(logits)
    total, own = entr(p.mean(axis=0)).sum(axis=1), entr(p).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(entropy, total, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mi, np.maximum(total - own, 0), rtol=1e-9, atol=1e-12)
    assert entropy.dtype == mi.dtype == np.float64
    assert (mi >= 0).all()
    assert (mi <= np.minimum(entropy, math.log(len(logits))) + 1e-12).all()
    assert (entropy <= math.log(logits.shape[2]) + 1e-12).all()


@given(logits=members(), data=st.data())
def test_ensembles_ignore_the_order_of_runs_and_a_constant_in_each_row(logits, data):
    wide = logits.astype(np.float64)
    runs, samples = (data.draw(st.permutations(range(n))) for n in logits.shape[:2])
    shift = np.array(data.draw(st.lists(numbers(), min_size=len(runs), max_size=len(runs))))
    for function in (disagreement.ensemble_entropy, disagreement.ensemble_mi):
        moved = function(wide[np.ix_(runs, samples)] + shift[:, None, None])
        np.testing.assert_allclose(moved, function(wide)[samples], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(function(wide[:, :1]), function(wide)[:1], rtol=1e-9, atol=1e-12)


@given(logits=members())
def test_the_entropy_of_identical_runs_is_that_of_one(logits):
    same = np.repeat(logits[:1], 3, axis=0)
    alone = logit_signals.entropy_from_logits(logits[0].astype(np.float64))
    np.testing.assert_allclose(disagreement.ensemble_entropy(same), alone, rtol=1e-9, atol=1e-12)
    mi = disagreement.ensemble_mi(same)
    assert (mi >= 0).all()
    np.testing.assert_allclose(mi, 0, atol=1e-13)


def test_a_class_that_is_ruled_out_and_logits_that_overflow_a_softmax():
    logits = np.array([[[0.0, 0.0, -np.inf], [1e30, 0.0, -1e30]]] * 3)
    np.testing.assert_allclose(disagreement.ensemble_entropy(logits), [math.log(2), 0], atol=1e-15)
    np.testing.assert_allclose(disagreement.ensemble_mi(logits), [0, 0], atol=1e-15)


def test_one_class_leaves_no_doubt_and_no_samples_no_scores():
    for function in (disagreement.ensemble_entropy, disagreement.ensemble_mi):
        assert function(np.ones((3, 2, 1))).tolist() == [0.0, 0.0]
        assert function(np.ones((3, 0, 4))).shape == (0,)


def test_a_run_without_a_value_leaves_none_for_that_sample_alone():
    logits = np.random.default_rng(0).standard_normal((4, 5, 3))
    for function in (disagreement.ensemble_entropy, disagreement.ensemble_mi):
        whole, spoiled = function(logits), logits.copy()
        spoiled[2, 3, 0] = np.nan
        found = function(spoiled)
        assert np.isnan(found).nonzero()[0].tolist() == [3]
        np.testing.assert_array_equal(np.delete(found, 3), np.delete(whole, 3))


@pytest.mark.parametrize("row", [[np.inf, 0.0], [-np.inf, -np.inf], [np.inf, np.inf]])
def test_infinite_logits_leave_no_value_and_no_warning(row):
    logits = np.array([[row, [0.0, 0.0]]] * 3)
    np.testing.assert_array_equal(disagreement.ensemble_mi(logits), [np.nan, 0])
    np.testing.assert_allclose(disagreement.ensemble_entropy(logits), [np.nan, math.log(2)])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_runs_are_no_ensemble(n):
    for function in (disagreement.ensemble_entropy, disagreement.ensemble_mi):
        with pytest.raises(ValueError, match=f"at least 3 members; got {n}"):
            unchecked(function)(np.zeros((n, 2, 3)))


def test_it_is_the_mean_of_probabilities_not_of_logits_nor_over_epochs():
    """A run that is far surer than the others does not outvote them."""
    logits = np.array([[[30.0, 0.0]], [[0.0, 3.0]], [[0.0, 3.0]]])
    of_mean_logits = entr(softmax(logits.mean(axis=0), axis=1)).sum()
    assert of_mean_logits < 0.01
    assert disagreement.ensemble_entropy(logits)[0] > 0.6


@pytest.mark.parametrize("key", ENSEMBLE)
def test_samples_that_runs_guess_at_are_harder(key):
    """Planted: of 50 of 300 samples each run has a guess of its own."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 300, 10))
    truth, guesses = rng.integers(0, 10, 300), rng.integers(0, 10, (5, 50))
    logits[:, np.arange(50, 300), truth[50:]] += 5
    logits[np.arange(5)[:, None], np.arange(50), guesses] += 5
    hardness = METRICS[key].sign * METRICS[key].score({"logits": logits})
    assert roc_auc_score(np.arange(300) < 50, hardness) > 0.95


@given(runs=st.integers(0, 60))
def test_ensembles_share_no_run_and_are_as_many_as_can_be_of_one_size(runs):
    found = ensembles(runs)
    places = [place for one in found for place in one]
    assert len({*places}) == len(places) <= runs
    assert {*places} <= {*range(runs)}
    assert len({len(one) for one in found}) <= 1
    assert len(found) == runs // MEMBERS
    assert all(len(one) >= MEMBERS for one in found)
    # No further run would fit into each of them.
    assert not found or runs - len(places) < len(found)
