"""Second-split forgetting time: low for what the other half does not support."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.metrics.forgetting import fslt
from hardness.metrics.registry import METRICS
from hardness.metrics.second_split import (
    learned_at_switch,
    seed_changes,
    seed_fsrt,
    seed_ssft,
    ssft,
)
from tests.strategies import histories

# One row per sample on the other half, from the first epoch to the last.
WORKED = {
    "never forgotten": ("11111", 6),
    "forgotten at once": ("00000", 1),
    "forgotten after the first epoch": ("10000", 2),
    "relearned in between": ("10100", 4),
    "lost until the last epoch": ("00001", 6),
    "lost in the last epoch": ("11110", 5),
}


def columns(*rows):
    return np.array([[letter == "1" for letter in row] for row in rows]).T


@pytest.mark.parametrize(("history", "time"), WORKED.values(), ids=WORKED)
def test_worked_by_hand(history, time):
    assert ssft(columns(history)).tolist() == [time]


def test_a_sample_that_is_forgotten_early_scores_harder():
    correct = columns("11110", "10000")
    recorded = {"correct_second_split": correct, "correct_first_split": np.ones_like(correct)}
    easy, hard = METRICS["ssft"].sign * METRICS["ssft"].score(recorded)
    assert hard > easy
    assert METRICS["ssft"].sign_origin == "published"


def test_it_reads_the_second_split_and_its_flag_the_end_of_the_first():
    recorded = {
        "correct_first_split": columns("011", "110", "000"),
        "correct_second_split": columns("10", "00", "00"),
    }
    assert METRICS["ssft"].score(recorded).tolist() == [2, 1, 1]
    assert METRICS["ssft"].flagged(recorded).tolist() == [True, False, False]
    learned = METRICS["ssft.learned"].score(recorded)
    np.testing.assert_array_equal(learned, [2, np.nan, np.nan])


def test_what_was_not_learned_is_left_out_only_where_asked():
    correct, first = columns("10", "10"), columns("0001", "1110")
    assert ssft(correct, first_split=first).tolist() == [2, 2]
    np.testing.assert_array_equal(ssft(correct, first_split=first, learned_only=True), [2, np.nan])
    assert learned_at_switch(first).tolist() == [True, False]


def test_correct_when_last_seen_is_never_forgotten():
    correct, seen = columns("1100", "1100", "0110"), columns("1100", "1110", "1110")
    assert ssft(correct, seen).tolist() == [5, 3, 5]


def test_never_seen_has_no_score():
    assert np.isnan(ssft(columns("11"), columns("00"))).all()


def maini(mask):
    """The authors' get_first_epoch_where_we_forget_forever: rows in front and behind, reversed."""
    mask = 1 - torch.tensor(mask, dtype=torch.float32)
    n = mask.shape[1]
    backwards = torch.cat([torch.zeros(1, n), mask, torch.ones(1, n)]).flip(0)
    return len(backwards) - backwards.argmin(0).numpy()


def slow(correct, seen):
    """The definition for one sample, backwards through the epochs at which it was seen."""
    backwards = [epoch for epoch in reversed(range(len(correct))) if seen[epoch]]
    if not backwards:
        return np.nan
    if correct[backwards[0]]:
        return len(correct) + 1
    for epoch in backwards:
        if correct[epoch]:
            return epoch + 2
    return 1


@given(case=histories(bool))
def test_equals_the_authors_and_the_definition(case):
    correct, seen = case
    np.testing.assert_array_equal(ssft(correct), maini(correct))
    expected = [slow(c, s) for c, s in zip(correct.T, seen.T, strict=True)]
    np.testing.assert_array_equal(ssft(correct, seen), expected)


@given(case=histories(bool))
def test_forgetting_mirrors_learning(case):
    correct, seen = case
    np.testing.assert_array_equal(ssft(correct, seen), fslt(~correct, seen))


@given(case=histories(bool))
def test_bounds(case):
    correct, _ = case
    times = ssft(correct)
    assert ((times >= 1) & (times <= len(correct) + 1)).all()
    assert ((times == 1) == ~correct.any(axis=0)).all()
    assert ((times == len(correct) + 1) == correct[-1]).all()


@given(case=histories(bool), data=st.data())
def test_one_more_correct_answer_is_never_harder(case, data):
    correct, _ = case
    more = correct.copy()
    epoch = data.draw(st.integers(0, len(correct) - 1))
    more[epoch] = True
    assert (ssft(more) >= ssft(correct)).all()


@given(case=histories(bool), first=st.data())
def test_leaving_out_what_was_not_learned_changes_nothing_else(case, first):
    correct, _ = case
    row = first.draw(st.lists(st.booleans(), min_size=correct.shape[1], max_size=correct.shape[1]))
    kept = np.array(row, dtype=bool)
    learned = ssft(correct, first_split=np.stack([~kept, kept]), learned_only=True)
    np.testing.assert_array_equal(np.isnan(learned), ~kept)
    np.testing.assert_array_equal(learned[kept], ssft(correct)[kept])


def test_arrays_that_disagree_are_refused():
    plain = inspect.unwrap(ssft)
    with pytest.raises(ValueError, match=r"expected seen of shape \(2, 3\); got \(3, 3\)"):
        plain(np.ones((2, 3), bool), np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="one epoch or more"):
        plain(np.ones((0, 3), bool))
    with pytest.raises(ValueError, match="expected first_split with 3 samples; got none"):
        plain(np.ones((2, 3), bool), learned_only=True)
    other = np.ones((2, 4), bool)
    with pytest.raises(ValueError, match=r"first_split with 3 samples; got \(2, 4\)"):
        plain(np.ones((2, 3), bool), first_split=other, learned_only=True)


def notebook(first, second):
    """calculate_metrics.ipynb for one sample: epochs from the last down to 2, the latest wins."""
    fsrt, forgotten, changes = -1, -1, 0
    for i in range(len(first) - 1, 1, -1):
        if fsrt == -1 and first[i] and not first[i - 1]:
            fsrt = i
        changes += first[i - 1] and not first[i]
    for i in range(len(second) - 1, 1, -1):
        if forgotten == -1 and second[i - 1] and not second[i]:
            forgotten = i
        changes += second[i - 1] and not second[i]
    return fsrt, forgotten, changes


@given(case=histories(bool))
def test_the_seed_projects_columns_are_those_of_its_notebook(case):
    first, second = case
    found = seed_fsrt(first), seed_ssft(second), seed_changes(first, second)
    for i in range(first.shape[1]):
        expected = notebook(first[:, i].tolist(), second[:, i].tolist())
        assert tuple(column[i] for column in found) == expected
    assert not {"seed_fsrt", "seed_ssft", "seed_changes"} & {*METRICS}


def test_where_the_seed_projects_columns_part_from_the_metrics():
    """Learned again, forgotten at once, and never anything at all."""
    correct = columns("11011", "10000", "00000", "11111")
    assert seed_ssft(correct).tolist() == [2, -1, -1, -1]
    assert ssft(correct).tolist() == [6, 2, 1, 6]
    assert seed_fsrt(correct).tolist() == [3, -1, -1, -1]
    assert fslt(correct).tolist() == [4, 6, 6, 1]
