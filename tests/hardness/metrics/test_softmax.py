"""Uncertainty scores: last epoch, mean of epochs, and which way they point."""

import numpy as np
import pytest
from hypothesis import given

from hardness.metrics.registry import METRICS
from hardness.metrics.softmax import energy, margin, max_softmax, predictive_entropy
from hardness.signals import logits as logit_signals
from tests.strategies import histories

FUNCTIONS = (max_softmax, predictive_entropy, margin, energy)
KEYS = ("max_softmax", "predictive_entropy", "margin", "energy")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_worked_by_hand(function):
    values = np.array([[0.25, 0.5], [0.75, 1.0]], dtype=np.float32)
    assert function(values).tolist() == [0.75, 1.0]
    assert function(values, over="all").tolist() == [0.5, 0.75]


@pytest.mark.parametrize("key", KEYS)
def test_an_undecided_sample_scores_harder(key):
    logits = np.array([[6.0, 0.0, 0.0], [0.2, 0.1, 0.0]])
    recorded = {k: v[None] for k, v in logit_signals.from_logits(logits, np.array([0, 0])).items()}
    sure, undecided = METRICS[key].sign * METRICS[key].score(recorded)
    assert undecided > sure
    sure, undecided = METRICS[key].sign * METRICS[f"{key}.mean"].score(recorded)
    assert undecided > sure


@pytest.mark.parametrize("function", FUNCTIONS)
@given(case=histories(low=0.0, high=1.0))
def test_the_last_epoch_and_the_mean_of_the_seen_ones(function, case):
    values, seen = case
    np.testing.assert_array_equal(function(values, seen), np.where(seen[-1], values[-1], np.nan))
    for i, here in enumerate(seen.T):
        expected = values[here, i].astype(np.float64).mean() if here.any() else np.nan
        np.testing.assert_allclose(function(values, seen, over="all")[i], expected, rtol=1e-12)
