"""Label quality: the label's probability and its lead over the other classes, out of fold."""

import inspect

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardness.metrics.label_quality import (
    label_quality_normalized_margin,
    label_quality_self_confidence,
)
from hardness.metrics.registry import METRICS

METHODS = {
    "self_confidence": label_quality_self_confidence,
    "normalized_margin": label_quality_normalized_margin,
}
WORKED = np.array([[0.75, 0.25, 0.0], [0.5, 0.125, 0.375], [0.25, 0.25, 0.5]])


@st.composite
def predictions(draw, min_classes=2):
    """``(probs[N, C], labels[N])``, certain and tied rows among them; classes may lack labels."""
    samples, classes = draw(st.integers(2, 8)), draw(st.integers(min_classes, 5))
    weights = draw(hnp.arrays(np.float64, (samples, classes), elements=st.integers(0, 8)))
    assume((weights.sum(axis=1) > 0).all())
    labels = draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    return weights / weights.sum(axis=1, keepdims=True), labels


def test_worked_by_hand():
    labels = np.array([0, 1, 2])
    assert label_quality_self_confidence(WORKED, labels).tolist() == [0.75, 0.125, 0.5]
    # Leads of 0.75 - 0.25, 0.125 - 0.5 and 0.5 - 0.25.
    assert label_quality_normalized_margin(WORKED, labels).tolist() == [0.75, 0.3125, 0.625]


def test_adjusted_by_hand():
    """Class 0 is expected at 0.5, class 1 at 0.5: shifted by 0.5, all rows sum to 1."""
    probs, labels = np.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]), np.array([0, 0, 1])
    assert label_quality_self_confidence(probs, labels, adjusted=True).tolist() == [0.75, 0.25, 0.5]
    # Class 0 at 0.75, class 1 at 0.25: the first row becomes (0.75, 0.75), of a sum of 1.5.
    probs, labels = np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1])
    assert label_quality_self_confidence(probs, labels, adjusted=True).tolist() == [0.5, 0.5]
    assert label_quality_normalized_margin(probs, labels, adjusted=True).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("key", [key for key in METRICS if key.startswith("label_quality")])
def test_a_wrong_label_scores_harder(key):
    """Fifty samples whose out-of-fold probabilities favor the true class; one label is another."""
    labels = np.arange(50) % 5
    probs = 0.8 * np.eye(5)[labels] + 0.04
    labels[7] = (labels[7] + 1) % 5
    entry = METRICS[key]
    hardness = entry.sign * entry.score({"holdout_probs": probs, "labels": labels})
    assert hardness.argmax() == 7
    assert entry.sign_origin == "published"


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("method", METHODS)
@given(case=predictions())
def test_equals_cleanlab(method, adjusted, case):
    """To the bit, classes without labels and classes that are never predicted among them."""
    probs, labels = case
    theirs = get_label_quality_scores(labels, probs, method=method, adjust_pred_probs=adjusted)
    np.testing.assert_array_equal(METHODS[method](probs, labels, adjusted=adjusted), theirs)


@given(case=predictions())
def test_bounds(case):
    """Self-confidence 1 has no rival; a lead of half the scale is a tie with one."""
    probs, labels = case
    for function in METHODS.values():
        scores = function(probs, labels)
        assert ((scores >= 0) & (scores <= 1)).all()
    margin = label_quality_normalized_margin(probs, labels)
    rival = np.where(np.eye(probs.shape[1], dtype=bool)[labels], -1, probs).max(axis=1)
    own = label_quality_self_confidence(probs, labels)
    np.testing.assert_array_equal(margin > 0.5, own > rival)


def test_an_adjustment_raises_what_its_class_seldom_gets():
    """Both labels have 0.4: as much as ever in class 1, and much too little in class 0."""
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])
    plain = label_quality_self_confidence(probs, labels)
    adjusted = label_quality_self_confidence(probs, labels, adjusted=True)
    assert plain[2] == plain[3]
    assert adjusted[3] > adjusted[2]


def test_a_row_with_nan_has_no_score_and_no_say_in_the_thresholds():
    labels = np.array([0, 0, 1, 2])
    probs = np.vstack([WORKED[:1], WORKED])
    spoiled = probs.copy()
    spoiled[0, 2] = np.nan
    for function in METHODS.values():
        found = function(spoiled, labels, adjusted=True)
        assert np.isnan(found).tolist() == [True, False, False, False]
        rest = function(probs[1:], labels[1:], adjusted=True)
        np.testing.assert_array_equal(found[1:], rest)


def test_with_a_single_class_there_is_no_lead():
    probs, labels = np.ones((3, 1)), np.zeros(3, dtype=np.int64)
    for adjusted in (False, True):
        own = label_quality_self_confidence(probs, labels, adjusted=adjusted)
        assert own.tolist() == [1, 1, 1]
        assert np.isnan(label_quality_normalized_margin(probs, labels, adjusted=adjusted)).all()
    with pytest.raises(ValueError, match="zero-size array"):
        get_label_quality_scores(labels, probs, method="normalized_margin")


def test_single_precision_is_widened_before_it_is_adjusted():
    probs = WORKED.astype(np.float32)
    labels = np.array([0, 1, 2])
    for function in METHODS.values():
        for adjusted in (False, True):
            expected = function(probs.astype(np.float64), labels, adjusted=adjusted)
            np.testing.assert_array_equal(function(probs, labels, adjusted=adjusted), expected)


@pytest.mark.parametrize("function", METHODS.values())
def test_labels_that_do_not_fit_are_refused(function):
    plain = inspect.unwrap(function)
    with pytest.raises(ValueError, match=r"one label for each of 3 samples; got \(2,\)"):
        plain(WORKED, np.array([0, 1]))
    for labels in ([0, 1, 3], [0, 1, -1]):
        with pytest.raises(ValueError, match="expected labels in 0 to 2; got"):
            plain(WORKED, np.array(labels))
