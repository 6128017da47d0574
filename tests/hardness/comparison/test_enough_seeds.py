"""Looks at a growing number of runs: by hand, their properties, and how often they err."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hardness.comparison.enough_seeds import ERROR, look_at, looks
from hardness.comparison.reliability import reliability, spearman_brown
from hardness.comparison.stability import spearman_pair_mean

PLAN = (6, 8, 12, 20)
# Three runs that agree, and one that swaps two neighbors: Spearman 1 - 6 * 2 / (5 * 24) = 0.9.
AGREE, SWAP = [1.0, 2, 3, 4, 5], [2.0, 1, 3, 4, 5]
FOUR = np.array([AGREE, AGREE, AGREE, SWAP])


def test_steps_double_until_the_most():
    assert looks(6, 20) == PLAN
    assert looks(4, 100) == (4, 6, 10, 18, 34, 66, 100)
    assert looks(6, 13) == (6, 8, 12, 13)
    assert looks(5, 5) == (5,)


@given(st.integers(4, 60), st.integers(0, 300))
def test_looks_grow_from_the_fewest_to_the_most(fewest, more):
    plan = looks(fewest, fewest + more)
    steps = [b - a for a, b in itertools.pairwise(plan)]
    assert (plan[0], plan[-1]) == (fewest, fewest + more)
    assert all(step > 0 for step in steps)
    assert steps[:-1] == [2 * 2**i for i in range(len(steps) - 1)]


@pytest.mark.parametrize(("fewest", "most"), [(3, 8), (0, 0), (6, 5)])
def test_a_plan_without_an_interval_or_backwards_is_refused(fewest, most):
    with pytest.raises(ValueError, match=f"got {fewest} and {most}"):
        looks(fewest, most)


def test_by_hand():
    """Pairs 1, 1, 1, 0.9, 0.9, 0.9: mean 0.95; without a run 14/15 three times and 1 once.

    Their squared distances from 0.95 are 3/3600 and 1/400, together 1/300, so that the jackknife's
    error is sqrt(3/4 * 1/300) = 0.05. t(3) is 3.1824 at 95 % and 4.1765 at 97.5 %, so r_1 reaches
    down to 0.7909 as the only look and to 0.7412 as one of two, and 4 r / (1 + 3 r) of that is
    0.9380 and 0.9197.
    """
    only, first = (look_at(FOUR, 1, plan, 0.93) for plan in ((4,), (4, 6)))
    assert only.reliability.value == first.reliability.value == pytest.approx(3.8 / 3.85)
    assert only.reliability.low == pytest.approx(0.9380, abs=5e-5)
    assert first.reliability.low == pytest.approx(0.9197, abs=5e-5)
    assert (only.reached, first.reached) == (True, False)
    assert (only.last, first.last) == (True, False)
    assert (first.number, first.of, first.due, first.runs) == (1, 2, 4, 4)
    # 0.93 * 0.05 / (0.07 * 0.95) = 0.7, and of the lower end 0.93 * 0.2588 / (0.07 * 0.7412) = 4.6.
    assert first.forecast.value == 1
    assert first.forecast.high == 5


def test_a_run_that_failed_is_not_counted():
    found = look_at(FOUR, 1, (6, 8), 0.9)
    assert (found.due, found.runs) == (6, 4)
    assert found.reliability.value == pytest.approx(spearman_brown(0.95, 4))


@pytest.mark.parametrize("runs", [0, 1])
def test_too_few_runs_go_on(runs):
    found = look_at(FOUR[:runs] if runs else np.empty((0, 0)), 1, PLAN, 0.9)
    assert math.isnan(found.reliability.value)
    assert not any((found.reached, found.undefined, found.last))
    assert f"needs 2 runs, got {runs}" in found.reliability.reason


def test_three_runs_that_agree_are_no_proof():
    found = look_at(FOUR[:3], 1, PLAN, 0.9)
    assert found.reliability.value == 1
    assert not found.reached
    assert not found.last


def test_what_further_runs_cannot_mend_ends_at_once():
    for scores in (np.full((6, 5), np.nan), np.vstack([FOUR, np.ones(5), SWAP])):
        found = look_at(scores, 1, PLAN, 0.9)
        assert found.undefined
        assert found.last
        assert not found.reached
        # More of them: still nothing.
        again = look_at(np.vstack([scores, SWAP, AGREE]), 2, PLAN, 0.9)
        assert math.isnan(again.reliability.value)


def test_the_last_look_is_the_last_though_not_reached():
    noise = np.random.default_rng(0).normal(size=(20, 50))
    found = look_at(noise, 4, PLAN, 0.9)
    assert found.last
    assert not found.reached


@pytest.mark.parametrize(
    ("number", "target", "said"), [(0, 0.9, "look from 1 to 4"), (5, 0.9, "got 5"), (1, 1.5, "1.5")]
)
def test_a_look_that_is_not_planned_is_refused(number, target, said):
    with pytest.raises(ValueError, match=said):
        look_at(FOUR, number, PLAN, target)


def test_more_runs_than_were_due_are_refused():
    with pytest.raises(ValueError, match="expected at most 6 runs; got 8"):
        look_at(np.vstack([FOUR, FOUR]), 1, PLAN, 0.9)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(4, 12), st.floats(0.05, 0.99), st.integers(1, 4))
@example(6507, 4, 0.5, 1)
def test_a_look_is_a_function_of_ranks_alone(seed, runs, target, number):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=30) + rng.normal(size=(runs, 30))
    plan = looks(12, 50)
    found = look_at(scores, number, plan, target)
    for same in (np.exp(scores), scores[:, rng.permutation(30)], scores[rng.permutation(runs)]):
        other = look_at(same, number, plan, target)
        assert other.reliability.low == pytest.approx(found.reliability.low, abs=1e-9)
        assert other.reliability.value == pytest.approx(found.reliability.value, abs=1e-9)
    # The formula of section 5, at the error's share of a look.
    r_1 = spearman_pair_mean(scores, confidence=1 - ERROR / len(plan))
    assert found.reliability == reliability(r_1, runs)
    assert found.reached == (found.reliability.low >= target)
    assert found.reliability.low <= found.reliability.value <= found.reliability.high
    # A split error asks for more than a single look does, where that can say anything at all.
    single = look_at(scores, 1, (runs,), target).reliability.low
    assert found.reliability.low < single or single == -np.inf


# How often a look errs


def quality(rng, kind, runs):
    """How much of the signal each run has."""
    if kind == "equal":
        return np.ones(runs)
    if kind == "unequal":
        return rng.uniform(0.4, 1.6, runs)
    return np.where(rng.random(runs) < 0.1, 0.1, 1.0)


@functools.cache
def simulated(kind, noise, *, sweeps=400, samples=200, split=True):
    """True r_m at each look, and the interval of each look of each sweep, of runs of known r."""
    rng = np.random.default_rng(7)
    truth = rng.normal(size=samples)

    def draw(runs):
        return quality(rng, kind, runs)[:, None] * truth + noise * rng.normal(size=(runs, samples))

    r_1 = spearman_pair_mean(draw(1500)).value
    true = np.array([spearman_brown(r_1, m) for m in PLAN])
    ends = np.empty((sweeps, len(PLAN), 2))
    for sweep in ends:
        runs = draw(PLAN[-1])
        for i, m in enumerate(PLAN):
            plan, number = (PLAN, i + 1) if split else ((m,), 1)
            found = look_at(runs[:m], number, plan, 0.5).reliability
            sweep[i] = found.low, found.high
    return true, ends


def false_stops(true, ends):
    """Share of sweeps that stop although r_m is below the target at that look.

    The target is set just above the true r_m of each look in turn, where it errs most easily: at
    this look and all before it a stop is false.
    """
    return [
        (ends[:, : i + 1, 0] >= target + 1e-9).any(axis=1).mean() for i, target in enumerate(true)
    ]


def tolerance(rate, sweeps=400):
    """Three standard errors of a simulated share."""
    return 3 * math.sqrt(rate * (1 - rate) / sweeps)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_seeds_that_are_equally_good_stop_too_early_in_less_than_1_of_40_sweeps(noise):
    true, ends = simulated("equal", noise)
    assert max(false_stops(true, ends)) <= 0.025 + tolerance(0.025)
    covered = ((ends[..., 0] <= true) & (true <= ends[..., 1])).all(axis=1).mean()
    assert covered >= 0.95 - tolerance(0.95)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_seeds_of_very_unequal_quality_stop_too_early_in_5_of_100_sweeps_at_most(noise):
    assert max(false_stops(*simulated("unequal", noise))) <= 0.05 + tolerance(0.05)


def test_without_splitting_the_error_looks_would_err_more_often():
    # The bounds above can tell: the same runs, each look as if it were the only one.
    split = max(false_stops(*simulated("unequal", 0.5)))
    naive = max(false_stops(*simulated("unequal", 0.5, split=False)))
    assert naive > 1.5 * split
    assert naive > 0.05 + tolerance(0.05)


def test_a_kind_of_seed_that_has_not_occurred_is_not_seen():
    """One seed in ten is useless, and 0.9^6 = 53 % of sweeps meet none at the first look."""
    stops = false_stops(*simulated("rare", 0.5, sweeps=300))
    assert stops[0] == pytest.approx(0.9**6, abs=tolerance(0.53, 300))
