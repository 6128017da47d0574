"""Parts of a training set: their size, their ends, their classes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardness.data import datasets
from hardness.data.options import DatasetOptions
from hardness.data.parts import (
    class_counts,
    digest_of,
    part_size,
    positions_of,
    pruned,
    random_part,
    ranked_part,
    samples_in,
)

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]), min_size=1, max_size=40).map(
    np.array
)
shares = st.floats(0.01, 1.0)


def test_worked_example():
    hardness = np.array([0.3, 0.9, 0.1, 0.5])
    assert ranked_part(hardness, 0.5, "hardest").tolist() == [1, 3]
    assert ranked_part(hardness, 0.5, "easiest").tolist() == [0, 2]
    assert ranked_part(hardness, 0.25, "easiest").tolist() == [2]


@given(scores, shares)
def test_no_sample_left_out_is_harder_than_one_of_the_hardest(hardness, keep):
    kept = ranked_part(hardness, keep, "hardest")
    left = np.setdiff1d(np.arange(len(hardness)), kept)
    assert len(kept) == part_size(len(hardness), keep)
    assert (np.diff(kept) > 0).all()
    if len(left):
        assert hardness[left].max() <= hardness[kept].min()


@given(scores, shares)
def test_the_easiest_are_the_hardest_of_the_opposite(hardness, keep):
    np.testing.assert_array_equal(
        ranked_part(hardness, keep, "easiest"), ranked_part(-hardness, keep, "hardest")
    )


@given(scores, shares, shares, st.sampled_from(["hardest", "easiest"]))
def test_a_smaller_share_is_inside_a_larger_one(hardness, one, other, which):
    small, large = (ranked_part(hardness, keep, which) for keep in sorted((one, other)))
    assert {*small} <= {*large}


def test_ties_are_cut_by_the_seed_alone():
    hardness = np.zeros(100)
    parts = [ranked_part(hardness, 0.3, "hardest", seed=seed).tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] != list(range(30))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40).map(np.array), st.integers(0, 9), st.data()
)
def test_a_random_part_has_just_the_classes_asked_for_and_is_nested(labels, seed, data):
    sizes = class_counts(labels, 4)
    large = [data.draw(st.integers(0, size)) for size in sizes]
    small = [data.draw(st.integers(0, count)) for count in large]
    parts = [random_part(labels, counts, seed=seed) for counts in (small, large)]
    for counts, part in zip((small, large), parts, strict=True):
        assert class_counts(labels[part], 4) == tuple(counts)
        assert len({*part}) == len(part)
    assert {*parts[0]} <= {*parts[1]}


def test_draws_are_those_of_raw_bits_which_numpy_promises_to_keep():
    labels = np.repeat([0, 1], [6, 6])
    assert random_part(labels, (2, 3), seed=7).tolist() == [0, 4, 7, 8, 9]
    assert ranked_part(np.zeros(8), 0.5, "hardest").tolist() == [0, 1, 4, 6]


def test_every_sample_of_a_class_is_as_likely():
    labels = np.repeat([0, 1], [10, 30])
    drawn = [random_part(labels, (5, 6), seed=seed) for seed in range(2000)]
    shares = np.bincount(np.concatenate(drawn), minlength=40) / len(drawn)
    # Standard errors are 0.011 and 0.009.
    np.testing.assert_allclose(shares[:10], 0.5, atol=0.05)
    np.testing.assert_allclose(shares[10:], 0.2, atol=0.04)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ranked_part(np.zeros(3), 0.0, "hardest"), "keep: expected a share above 0"),
        (lambda: ranked_part(np.zeros(3), 1.5, "hardest"), "keep: .* got 1.5"),
        (lambda: ranked_part(np.array([0.0, np.nan]), 0.5, "easiest"), "got none for 1 of 2"),
        (
            lambda: random_part(np.array([0, 1, 1]), (2, 1), seed=0),
            "class 0: .* 2 samples .* got 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_digest_names_the_samples_and_nothing_else():
    assert digest_of(np.array([1, 5])) == digest_of(
        np.array([1, 5], dtype=np.int32).astype(np.int64)
    )
    assert digest_of(np.array([1, 5])) != digest_of(np.array([1, 6]))


def test_a_pruned_dataset_keeps_ids_columns_and_validation():
    digits = datasets.load(DatasetOptions(name="digits", subset=100), 0.2)
    part = pruned(digits, np.array([3, 5, 60]))
    assert part.train.sample_ids.tolist() == digits.train.sample_ids[[3, 5, 60]].tolist()
    assert part.train.labels.tolist() == digits.train.labels[[3, 5, 60]].tolist()
    assert part.train.images.equal(digits.train.images[[3, 5, 60]])
    assert part.validation is digits.validation
    assert len(part.columns) == 3


@pytest.mark.parametrize("part", [None, {"ids": "mine"}, {"counts": [1, 0, 4, *[0] * 7]}])
def test_a_part_has_as_many_samples_as_it_has_positions(part):
    digits = datasets.load(DatasetOptions(name="digits", subset=100), 0.2)
    digits = dataclasses.replace(digits, parts={"mine": np.array([3, 5, 60])})
    positions = positions_of(digits, part, seed=0)
    assert samples_in(digits, part) == len(pruned(digits, positions).train)
