"""Random streams: derived from their coordinates, each of which matters."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness.seeding import PURPOSES, Streams

seeds = st.integers(0, 2**63)
purposes = st.sampled_from(PURPOSES)
epochs = st.integers(0, 10_000)


@given(seed=seeds, salt=st.text(), purpose=purposes, epoch=epochs)
def test_equal_coordinates_give_equal_bits(seed, salt, purpose, epoch):
    one, other = (Streams(seed=seed, salt=salt) for _ in range(2))
    first = torch.rand(5, generator=one.generator(purpose, epoch))
    one.generator("order", epoch + 1)  # a stream taken in between moves no other
    assert torch.equal(first, torch.rand(5, generator=one.generator(purpose, epoch)))
    assert torch.equal(first, torch.rand(5, generator=other.generator(purpose, epoch)))


def test_each_coordinate_matters():
    drawn = {
        Streams(seed=seed, salt=salt).integer(purpose, epoch)
        for salt, seed, purpose, epoch in itertools.product(
            ("", "a", "a|1"), range(12), PURPOSES, range(12)
        )
    }
    assert len(drawn) == 3 * 12 * len(PURPOSES) * 12
    assert all(0 <= number < 2**63 for number in drawn)


@given(salt=st.text(), vary=st.sets(purposes, min_size=1), epoch=epochs, a=seeds, b=seeds)
def test_only_what_varies_follows_the_seed(salt, vary, epoch, a, b):
    one, other = (Streams(seed=s, salt=salt, vary=tuple(vary)) for s in (a, b))
    for purpose in PURPOSES:
        equal = one.integer(purpose, epoch) == other.integer(purpose, epoch)
        assert equal == (a == b or purpose not in vary)


def test_what_is_held_still_follows_salt_and_epoch():
    held = Streams(seed=0, salt="a", vary=("weights",))
    assert held.integer("order", 1) != held.integer("order", 2)
    assert held.integer("order", 1) != Streams(seed=0, salt="b", vary=("weights",)).integer(
        "order", 1
    )


def test_the_numbers_are_those_of_the_first_version():
    run = Streams(seed=7, salt="0123456789abcdef")
    assert Streams(seed=0).integer("weights") == 7225651771329884586
    assert run.integer("order", 3) == 2153675468074569549
    assert Streams(seed=7, vary=("weights",)).integer("order", 3) == 1912062435006054975
    order = torch.randperm(8, generator=Streams(seed=0).generator("order", 1))
    assert order.tolist() == [4, 3, 1, 2, 6, 7, 5, 0]


def test_an_unknown_purpose_is_refused_by_name():
    known = "weights, order, augmentation, dropout, views"
    message = re.escape(f"expected random streams out of {known}; got 'wieghts'")
    with pytest.raises(ValueError, match=message):
        Streams(seed=0, vary=("order", "wieghts"))
    with pytest.raises(ValueError, match=message):
        Streams(seed=0).integer("wieghts")
    with pytest.raises(ValueError, match="got nothing"):
        Streams(seed=0, vary=())
