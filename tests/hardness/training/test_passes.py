"""When scoring passes are made: defaults that suit each, and epochs that are asked for."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardness.dynamics.record import Recording
from hardness.metrics.registry import METRICS
from hardness.training import REGIMENS
from hardness.training.passes import Pass, ends_and_between, evenly, last, schedule

PASSES = {
    "cheap": Pass(signals=("a", "b"), epochs=last, forwards=3),
    "often": Pass(signals=("c",), epochs=ends_and_between, forwards=20),
    "whole": Pass(signals=("d",), epochs=last, forwards=60, at_end=True),
}
ALL = tuple(PASSES)


def test_each_pass_has_epochs_of_its_own_by_default():
    found = schedule(PASSES, Recording(passes=ALL), 30)
    assert found == {"cheap": (29,), "often": ends_and_between(30), "whole": (29,)}
    assert schedule(PASSES, Recording(passes=ALL), 1) == dict.fromkeys(ALL, (0,))


def test_only_passes_that_are_asked_for_and_of_the_regimen_are_made():
    assert schedule(PASSES, Recording(), 3) == {}
    assert schedule(PASSES, Recording(passes=("of another", "cheap")), 3) == {"cheap": (2,)}
    # Epochs of a regimen that makes no pass matter to nobody.
    assert schedule({}, Recording(passes=ALL, score_epochs=(99,)), 3) == {}


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ((0,), (0,)),
        ((-1,), (4,)),
        ((-5, 4), (0, 4)),
        ((3, -2, 3, 1), (1, 3)),
        ((2, 0, -1), (0, 2, 4)),
    ],
)
def test_epochs_are_asked_for_from_either_end_and_made_once_each_in_order(asked, made):
    found = schedule(PASSES, Recording(passes=ALL, score_epochs=asked), 5)
    assert found == {"cheap": made, "often": made, "whole": (4,)}


@pytest.mark.parametrize("asked", [(5,), (0, 7, -1), (-6,), (1, -9, 5)])
def test_an_epoch_that_the_run_does_not_have_is_refused_in_one_line(asked):
    outside = next(epoch for epoch in asked if not -5 <= epoch < 5)
    with pytest.raises(ValueError, match="score_epochs") as raised:
        schedule(PASSES, Recording(passes=("cheap",), score_epochs=asked), 5)
    expected = f"score_epochs: expected epochs from -5 to 4; got {outside}"
    assert str(raised.value) == expected


@given(epochs=st.integers(1, 300), count=st.integers(2, 12))
def test_even_distances_hold_both_ends(epochs, count):
    found = evenly(epochs, count)
    assert len(found) == min(epochs, count)
    assert (found[0], found[-1]) == (0, epochs - 1)
    gaps = {after - before for before, after in itertools.pairwise(found)}
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(epochs=st.integers(1, 300), each=st.integers(1, 6))
def test_both_ends_and_as_many_between_them(epochs, each):
    found = ends_and_between(epochs, each)
    assert len(found) == min(epochs, 3 * each)
    assert list(found) == sorted({*found})
    assert {*range(min(each, epochs))} <= {*found}
    assert {*range(max(0, epochs - each), epochs)} <= {*found} <= {*range(epochs)}


def test_defaults_are_those_of_the_specification():
    """The last epoch; for gradients of two views the first five, the last five, five between."""
    found = {
        (name, one): each.epochs(100)
        for name, regimen in REGIMENS.items()
        for one, each in regimen.passes.items()
    }
    views = found.pop(("contrastive", "views"))
    assert views == (0, 1, 2, 3, 4, 20, 35, 50, 65, 80, 95, 96, 97, 98, 99)
    assert {*found.values()} == {(99,)}
    assert {one for _, one in found} == {"grand", "odin", "mc_dropout", "vog", "perturbation"}


@pytest.mark.parametrize("name", [name for name, regimen in REGIMENS.items() if regimen.passes])
def test_each_signal_of_a_pass_is_recorded_by_it_alone_and_read_by_a_metric(name):
    regimen = REGIMENS[name]
    recorded = [signal for one in regimen.passes.values() for signal in one.signals]
    assert len({*recorded}) == len(recorded)
    assert not {*recorded} & {*regimen.signals, *regimen.snapshots}
    assert {*recorded} <= {signal for metric in METRICS.values() for signal in metric.signals}
    assert all(one.forwards > 0 for one in regimen.passes.values())
