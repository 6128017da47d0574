"""Arrays of other axes than a metric's signature names are refused, in one clear line."""

import inspect
import re
import typing

import numpy as np
import pytest

from hardness import metrics
from hardness.metrics.axes import checked_axes
from hardness.metrics.cartography import cartography_confidence
from hardness.metrics.label_margin import aum
from hardness.metrics.registry import METRICS, metric


def arrays(function):
    """The shape string of each parameter that is an array."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        for one in (parameter.annotation, *typing.get_args(parameter.annotation)):
            if hasattr(one, "dim_str"):
                found[name] = one.dim_str.split()
    return found


FUNCTIONS = dict(inspect.getmembers(metrics, inspect.isfunction))
ARRAYS = [(n, name) for n, function in FUNCTIONS.items() for name in arrays(function)]


def test_every_metric_takes_an_array():
    keys = {key.partition(".")[0] for key, m in METRICS.items()}
    assert keys <= {function for function, _ in ARRAYS}


@pytest.mark.parametrize(("function", "name"), ARRAYS)
@pytest.mark.parametrize("more", [-1, 1])
def test_an_array_of_another_number_of_axes_is_refused(function, name, more):
    """Before anything else is looked at, and with the axes that are expected."""
    others = {
        n: np.zeros([2] * sum(not axis.startswith("*") for axis in axes))
        for n, axes in arrays(FUNCTIONS[function]).items()
    }
    required = (
        {"n_classes": 2} if "n_classes" in inspect.signature(FUNCTIONS[function]).parameters else {}
    )
    axes = arrays(FUNCTIONS[function])[name]
    fixed = sum(not axis.startswith("*") for axis in axes)
    ndim = len(axes) + 1 if more > 0 else fixed - 1
    wrong = np.zeros([2] * ndim)
    message = re.escape(f"{function}: expected {name} [")
    with pytest.raises(ValueError, match=rf"{message}.*{re.escape(f'; got shape {wrong.shape}')}$"):
        FUNCTIONS[function](**{**required, **others, name: wrong})


def test_logits_in_place_of_a_signal_are_refused():
    logits = np.zeros((5, 10, 3))
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole line follows
        aum(logits)
    expected = "aum: expected label_margin [epochs, samples]; got shape (5, 10, 3)"
    assert str(refused.value) == expected
    with pytest.raises(ValueError, match=r"p_label \[epochs, samples\]; got shape \(5, 10, 3\)"):
        METRICS["cartography_confidence.train"].score({"p_label.train": logits})


def test_percent_in_place_of_probabilities_are_refused():
    percent = np.array([[12.5, 87.5]])
    message = r"expected probabilities in 0 to 1, not percent; got 12\.5"
    for key in ("cartography_confidence", "cartography_variability", "data_iq_aleatoric"):
        with pytest.raises(ValueError, match=message):
            METRICS[key].function(percent)
    for key in ("label_quality_self_confidence", "label_quality_normalized_margin"):
        with pytest.raises(ValueError, match=message):
            METRICS[key].function(percent, np.array([0]))


def test_what_was_not_seen_may_be_anything_and_rounding_is_no_percent():
    p_label = np.array([[1.0004, 50.0], [-0.0004, 0.5]])
    seen = np.array([[True, False], [True, True]])
    np.testing.assert_allclose(cartography_confidence(p_label, seen), [0.5, 0.5])


def test_a_metric_without_annotations_takes_what_it_takes(monkeypatch):
    monkeypatch.setattr("hardness.metrics.registry.METRICS", {})

    def largest(loss):
        return loss.max(axis=0)

    about: typing.Any = {
        "family": "supervised",
        "sign": 1,
        "sign_origin": "hypothesis",
        "labels_used": "own",
    }
    assert metric(**about, summary="for this test", paper="none")(largest) is largest
    assert checked_axes(largest)(np.ones((2, 3, 4))).shape == (3, 4)
