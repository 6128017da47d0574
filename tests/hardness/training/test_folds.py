"""The deal of samples into folds: even in every class, and the same bits as ever."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.training.folds import deal


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    folds=st.integers(2, 7),
    seed=st.integers(0, 2**40),
)
def test_folds_are_equal_up_to_one_sample_in_all_and_in_every_class(labels, folds, seed):
    labels = torch.tensor(labels)
    fold = deal(labels, folds, seed)
    assert torch.equal(fold, deal(labels, folds, seed))
    for rows in (labels >= 0, *(labels == c for c in labels.unique())):
        counts = torch.bincount(fold[rows], minlength=folds)
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1]),
        (1, [0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1]),
        (2**40, [0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1]),
    ],
)
def test_two_folds_are_the_halves_of_runs_that_are_stored(seed, expected):
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 1, 0, 2])
    assert deal(labels, 2, seed).tolist() == expected


def test_another_seed_deals_otherwise():
    labels = torch.arange(100) % 10
    assert not torch.equal(deal(labels, 5, 0), deal(labels, 5, 1))
