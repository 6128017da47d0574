"""Forgetting events, first learned epoch and first-split learning time."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given

from hardness.metrics.cartography import cartography_correctness
from hardness.metrics.forgetting import (
    censored,
    forgetting_events,
    fslt,
    learned_first_epoch,
    never_learned,
)
from hardness.metrics.registry import METRICS
from hardness.metrics.second_split import seed_fsrt, seed_ssft, ssft
from tests.strategies import histories

# One row per sample, read from the first epoch to the last.
WORKED = {
    "always": ("11111", 0, 0, 1),
    "learned once": ("00111", 0, 2, 3),
    "forgotten twice": ("10101", 2, 0, 5),
    "never": ("00000", 5, 5, 6),
    "lost at the end": ("11110", 1, 0, 6),
    "lost for good": ("01000", 1, 1, 6),
}


def columns(*rows):
    return np.array([[letter == "1" for letter in row] for row in rows]).T


@pytest.mark.parametrize(("history", "forgotten", "first", "time"), WORKED.values(), ids=WORKED)
def test_worked_by_hand(history, forgotten, first, time):
    correct = columns(history)
    assert forgetting_events(correct).tolist() == [forgotten]
    assert learned_first_epoch(correct).tolist() == [first]
    assert fslt(correct).tolist() == [time]


def test_a_sample_that_is_lost_scores_harder():
    easy_then_hard = columns("011111", "010101")
    for key in ("forgetting_events", "fslt"):
        easy, hard = METRICS[key].sign * METRICS[key].score({"correct": easy_then_hard})
        assert hard > easy
    late = columns("011111", "000011")
    easy, hard = METRICS["learned_first_epoch"].score({"correct": late})
    assert hard > easy


def test_never_learned_counts_as_every_epoch():
    correct = columns("0000", "0100")
    assert forgetting_events(correct).tolist() == [4, 1]
    assert learned_first_epoch(correct).tolist() == [4, 1]
    assert never_learned(correct).tolist() == [True, False]
    assert METRICS["forgetting_events"].flagged({"correct": correct}).tolist() == [True, False]
    train = METRICS["forgetting_events.train"].flagged({"correct.train": ~correct})
    assert train.tolist() == [False, False]


@pytest.mark.parametrize(
    ("history", "forgotten", "first", "time"), [("1", 0, 0, 1), ("0", 1, 1, 2)]
)
def test_one_epoch(history, forgotten, first, time):
    correct = columns(history)
    assert forgetting_events(correct).tolist() == [forgotten]
    assert learned_first_epoch(correct).tolist() == [first]
    assert fslt(correct).tolist() == [time]


def test_consecutive_means_consecutive_presentations():
    correct, seen = columns("1001", "1001"), columns("1011", "1001")
    assert forgetting_events(correct, seen).tolist() == [1, 0]


def test_a_sample_wrong_when_last_seen_is_censored():
    correct, seen = columns("1100", "1100", "0110"), columns("1110", "1100", "1110")
    assert fslt(correct, seen).tolist() == [5, 1, 2]
    assert censored(correct, seen).tolist() == [True, False, False]


def test_never_seen_has_no_score_and_no_flag():
    correct, seen = columns("00"), columns("00")
    for function in (forgetting_events, learned_first_epoch, fslt):
        assert np.isnan(function(correct, seen)).all()
    assert not never_learned(correct, seen).any()
    assert not censored(correct, seen).any()


def slow(correct, seen):
    """The three definitions, one sample and one presentation at a time."""
    epochs = len(correct)
    when = np.flatnonzero(seen)
    if not len(when):
        return np.nan, np.nan, np.nan
    shown = [bool(correct[e]) for e in when]
    forgotten = sum(a and not b for a, b in itertools.pairwise(shown))
    first = when[shown.index(True)] if any(shown) else epochs
    wrong = [int(e) for e, right in zip(when, shown, strict=True) if not right]
    time = epochs + 1 if not shown[-1] else 2 + wrong[-1] if wrong else 1
    return forgotten if any(shown) else epochs, first, time


@given(case=histories(bool))
def test_equals_the_definition(case):
    correct, seen = case
    expected = np.array([slow(c, s) for c, s in zip(correct.T, seen.T, strict=True)]).T
    np.testing.assert_array_equal(forgetting_events(correct, seen), expected[0])
    np.testing.assert_array_equal(learned_first_epoch(correct, seen), expected[1])
    np.testing.assert_array_equal(fslt(correct, seen), expected[2])


@given(case=histories(bool))
def test_bounds(case):
    correct, _ = case
    epochs = len(correct)
    events = forgetting_events(correct)[~never_learned(correct)]
    assert (events <= epochs // 2).all()
    assert (events >= 0).all()
    times = fslt(correct)
    assert ((times >= 1) & (times <= epochs + 1)).all()
    assert ((times == epochs + 1) == censored(correct)).all()
    assert (learned_first_epoch(correct) <= times - 1).all()


OF_CORRECT = [
    forgetting_events, learned_first_epoch, fslt, never_learned, censored, cartography_correctness,
    ssft, seed_fsrt, seed_ssft,
]  # fmt: skip


@pytest.mark.parametrize("function", OF_CORRECT)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_zeros_and_ones_may_be_numbers(function, dtype):
    """As in Toneva's statistics, ssft's masks and the seed repository's tables."""
    correct = columns("0110", "1111", "0000", "1010")
    counted = function(correct.astype(dtype))
    np.testing.assert_array_equal(counted, function(correct))
    assert counted.dtype == function(correct).dtype


def test_other_numbers_than_0_and_1_are_refused_where_seen():
    correct, seen = np.array([[0.0, np.nan], [1.0, 1.0]]), columns("11", "01")
    assert learned_first_epoch(correct, seen).tolist() == [1, 1]
    for strange in (np.nan, 0.5, -1.0):
        with pytest.raises(ValueError, match=f"expected correct of 0 and 1; got {strange}"):
            forgetting_events(np.array([[1.0], [strange]]))


@pytest.mark.parametrize("function", [forgetting_events, learned_first_epoch, fslt])
def test_arrays_that_disagree_are_refused(function):
    plain = inspect.unwrap(function)
    with pytest.raises(ValueError, match=r"expected seen of shape \(2, 3\); got \(3, 3\)"):
        plain(np.ones((2, 3), bool), np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="one epoch or more"):
        plain(np.ones((0, 3), bool))
