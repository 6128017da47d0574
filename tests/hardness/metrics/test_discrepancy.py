"""Early epochs against late ones, each sample by its own."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardness.metrics.discrepancy import feature_norm_discrepancy, lgn_discrepancy, msd_discrepancy
from hardness.metrics.registry import METRICS
from tests.strategies import histories

FUNCTIONS = (msd_discrepancy, feature_norm_discrepancy, lgn_discrepancy)
FALLING = np.arange(12.0, 0.0, -1.0)[:, None]  # 12, 11, ..., 1


def slow(values, seen, k, *, ratio=False):
    """One sample: the mean of its first k values less that of its last k."""
    defined = [float(v) for v, s in zip(values, seen, strict=True) if s and not np.isnan(v)]
    if len(defined) < 2 * k:
        return np.nan
    early, late = np.mean(defined[:k]), np.mean(defined[-k:])
    if ratio:
        return early / late if late != 0 else np.nan
    return early - late


def test_worked_by_hand():
    """The gradient norm is there from the first epoch on, displacement from the second."""
    assert lgn_discrepancy(FALLING).tolist() == [10.0 - 3.0]
    assert msd_discrepancy(FALLING).tolist() == [9.0 - 3.0]
    assert feature_norm_discrepancy(FALLING).tolist() == [9.0 - 3.0]
    assert lgn_discrepancy(FALLING, ratio=True).tolist() == [10.0 / 3.0]
    assert msd_discrepancy(FALLING, ratio=True).tolist() == [3.0]
    assert lgn_discrepancy(FALLING, k=2).tolist() == [11.5 - 1.5]


def test_the_signs_and_who_says_so():
    for key, sign in (("msd", -1), ("feature_norm", -1), ("lgn", 1)):
        for variant in ("", ".ratio"):
            entry = METRICS[f"{key}_discrepancy{variant}"]
            assert (entry.sign, entry.sign_origin) == (sign, "hypothesis")
            assert (entry.labels_used, entry.measures) == ("none", "hardness")


def test_what_comes_to_rest_is_taken_for_easy():
    """A hypothesis about displacement, hence the sign alone: large at first and small at last."""
    rests = np.where(np.arange(12) < 6, 5.0, 0.1)
    restless = np.full(12, 2.0)
    entry = METRICS["msd_discrepancy"]
    easy, hard = entry.sign * entry.score({"msd": np.stack([rests, restless], axis=1)})
    assert hard > easy


@pytest.mark.parametrize("function", FUNCTIONS)
def test_both_ends_have_to_fit(function):
    first = 0 if function is lgn_discrepancy else 1
    assert np.isfinite(function(FALLING[: 10 + first])).all()
    assert np.isnan(function(FALLING[: 9 + first])).all()
    assert np.isnan(function(FALLING[:1])).all()


def test_the_displacement_into_the_first_epoch_is_not_read():
    spoiled = FALLING.copy()
    spoiled[0] = np.nan
    np.testing.assert_array_equal(msd_discrepancy(spoiled), msd_discrepancy(FALLING))
    spoiled[0] = 0.0  # as the published history has it
    np.testing.assert_array_equal(msd_discrepancy(spoiled), msd_discrepancy(FALLING))
    np.testing.assert_array_equal(
        feature_norm_discrepancy(spoiled), feature_norm_discrepancy(FALLING)
    )


def test_the_published_slice_starts_one_epoch_too_late():
    """partially_noised_dataset.ipynb drops row 0 and then skips another one."""
    history, k = FALLING**2, 5
    sliced = history[1:]
    published = sliced[1 : k + 1].mean(axis=0) - sliced[-k:].mean(axis=0)
    assert msd_discrepancy(history).tolist() != published.tolist()
    np.testing.assert_allclose(published, lgn_discrepancy(history[2:]))


@given(case=histories(low=0.0), k=st.integers(1, 3), ratio=st.booleans(), data=st.data())
def test_equals_the_definition_on_what_was_seen_and_is_there(case, k, ratio, data):
    values, seen = case
    holes = data.draw(hnp.arrays(bool, values.shape))
    values = np.where(holes, np.float32(np.nan), values)
    raw = lgn_discrepancy(values, seen, k=k, ratio=ratio)
    expected = [slow(v, s, k, ratio=ratio) for v, s in zip(values.T, seen.T, strict=True)]
    np.testing.assert_allclose(raw, expected, rtol=1e-9, atol=1e-9)
    assert not np.isinf(raw).any()
    norm = feature_norm_discrepancy(values, seen, k=k, ratio=ratio)
    expected = [slow(v[1:], s[1:], k, ratio=ratio) for v, s in zip(values.T, seen.T, strict=True)]
    np.testing.assert_allclose(norm, expected, rtol=1e-9, atol=1e-9)


def test_a_displacement_is_between_two_epochs_that_were_seen():
    """Not seen at first: the first displacement is into the second epoch that was."""
    seen = np.ones((12, 1), bool)
    seen[:2] = False
    assert np.isnan(msd_discrepancy(FALLING, seen)).all()  # nine displacements are left
    raw = msd_discrepancy(FALLING, seen, k=4)
    np.testing.assert_array_equal(raw, lgn_discrepancy(FALLING[3:], k=4))


@given(case=histories(low=0.5), k=st.integers(1, 3))
def test_a_constant_loses_nothing(case, k):
    values, seen = case
    flat = np.broadcast_to(values[:1], values.shape)
    raw, ratio = (lgn_discrepancy(flat, seen, k=k, ratio=r) for r in (False, True))
    there = seen.sum(axis=0) >= 2 * k
    np.testing.assert_array_equal(np.isfinite(raw), there)
    np.testing.assert_allclose(raw[there], 0.0, atol=1e-6)
    np.testing.assert_allclose(ratio[there], 1.0)


@given(case=histories(low=0.5), scale=st.floats(0.5, 4.0))
def test_the_ratio_does_not_know_the_unit(case, scale):
    values = case[0].astype(np.float64)
    raw = lgn_discrepancy(values, k=1, ratio=True)
    np.testing.assert_allclose(lgn_discrepancy(scale * values, k=1, ratio=True), raw, rtol=1e-9)


def test_a_ratio_to_nothing_is_undefined():
    assert np.isnan(lgn_discrepancy(np.array([[1.0], [0.0]]), k=1, ratio=True)).all()
    assert lgn_discrepancy(np.array([[1.0], [0.0]]), k=1).tolist() == [1.0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_arguments_that_make_no_sense_are_refused(function):
    with pytest.raises(ValueError, match="k of at least 1; got 0"):
        function(np.ones((4, 2)), k=0)
    with pytest.raises(ValueError, match="expected seen of shape"):
        inspect.unwrap(function)(np.ones((4, 2)), np.ones((4, 3), bool))


def test_infinite_values_at_both_ends_leave_no_value_and_no_warning():
    assert np.isnan(lgn_discrepancy(np.full((4, 1), np.inf), k=2)).all()
