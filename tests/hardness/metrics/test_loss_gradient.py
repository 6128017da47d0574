"""Mean and spread of the loss's gradient over the epochs that were scored."""

import inspect

import numpy as np
import pytest
from hypothesis import given

from hardness.metrics.loss_gradient import lgn_mean, lgn_std
from hardness.metrics.registry import METRICS
from tests.strategies import histories


def test_worked_by_hand():
    lgn = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]])
    assert lgn_mean(lgn).tolist() == [3.0, 2.0]
    np.testing.assert_allclose(lgn_std(lgn), [np.sqrt(8 / 3), 0.0])


def test_low_is_hard_as_measured():
    for key in ("lgn_mean", "lgn_std"):
        entry = METRICS[key]
        assert (entry.sign, entry.sign_origin, entry.family) == (-1, "measured", "loss-based")
        assert (entry.signals, entry.labels_used) == (("lgn",), "none")
        weak, strong = entry.sign * entry.score({"lgn": np.array([[1.0, 2.0], [1.5, 8.0]])})
        assert weak > strong


@given(case=histories(low=0.0))
def test_equals_numpy_on_what_was_scored(case):
    lgn, seen = case
    mean, spread = lgn_mean(lgn, seen), lgn_std(lgn, seen)
    for i, (values, here) in enumerate(zip(lgn.T.astype(np.float64), seen.T, strict=True)):
        shown = values[here]
        expected = shown.mean() if len(shown) else np.nan
        np.testing.assert_allclose(mean[i], expected, rtol=1e-12)
        expected = shown.std() if len(shown) > 1 else np.nan
        np.testing.assert_allclose(spread[i], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [lgn_mean, lgn_std])
def test_arrays_that_disagree_are_refused(function):
    with pytest.raises(ValueError, match="expected seen of shape"):
        inspect.unwrap(function)(np.ones((2, 3)), np.ones((2, 2), bool))


@pytest.mark.parametrize("key", ["lgn_mean", "lgn_std", "lgn_discrepancy"])
def test_variants_read_the_gradients_that_they_are_named_after(key):
    for variant in ("stacked", "own"):
        assert METRICS[f"{key}.{variant}"].inputs == {"lgn": f"lgn.{variant}"}
        assert METRICS[f"{key}.{variant}"].sign == METRICS[key].sign
