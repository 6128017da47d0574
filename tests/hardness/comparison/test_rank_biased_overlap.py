import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardness.comparison.rank_biased_overlap import rbo, rbo_persistence

tied = hnp.arrays(
    np.float64,
    st.tuples(st.just(2), st.integers(2, 30)),
    elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf]),
)


def slow_rbo(x, y, p):
    """From the two lists of ids and a set for every depth."""
    lists = [np.lexsort((np.arange(len(s)), -s)).tolist() for s in (x, y)]
    total = 0
    for depth in range(1, len(x) + 1):
        shared = {*lists[0][:depth]} & {*lists[1][:depth]}
        total += p ** (depth - 1) * len(shared) / depth
    return (1 - p) * total


class TestRbo:
    def test_by_hand(self):
        # Ids 0 1 2 and 0 2 1: agreement 1, 1/2, 1 weighs 1/2, 1/4, 1/8, and 1/8 stays beyond.
        found = rbo(np.array([3.0, 2, 1]), np.array([3.0, 1, 2]), persistence=0.5)
        assert found.value == 1 / 2 + 1 / 8 + 1 / 8
        assert found.extrapolated == found.value + 1 / 8

    @given(tied, st.sampled_from([0.0, 0.5, 0.9]))
    def test_equals_sets_at_every_depth(self, scores, p):
        found = rbo(*scores, persistence=p)
        if (scores == scores[:, :1]).all(axis=1).any():
            assert "all samples tie in" in found.reason
        else:
            assert found.value == pytest.approx(slow_rbo(scores[0], scores[1], p))
            assert found.value <= found.extrapolated <= 1 + 1e-12

    def test_equal_rankings_agree_entirely(self):
        x = np.random.default_rng(0).normal(size=300)
        found = rbo(x, np.exp(x))
        assert found.extrapolated == pytest.approx(1)
        assert found.value == pytest.approx(1 - found.persistence**300)

    def test_counts_the_hardest_samples_most(self):
        x = np.arange(1000.0)
        at_the_top, at_the_bottom = x.copy(), x.copy()
        at_the_top[-100:] = at_the_top[-100:][::-1]
        at_the_bottom[:100] = at_the_bottom[:100][::-1]
        assert rbo(x, at_the_top).value < 0.7
        assert rbo(x, at_the_bottom).value > 0.99

    def test_unrelated_rankings_share_what_chance_gives(self):
        generator = np.random.default_rng(0)
        found = np.mean([rbo(*generator.normal(size=(2, 2000))).value for _ in range(20)])
        assert found == pytest.approx(0.02, abs=0.01)  # mean depth over N


class TestPersistence:
    def test_puts_85_percent_of_the_weight_on_the_hardest_2_percent(self):
        # Webber et al., equation 21: weight of the first d depths.
        p, d = rbo_persistence(50_000), 1000
        rest = np.sum(p ** np.arange(1, d) / np.arange(1, d))
        weight = 1 - p ** (d - 1) + (1 - p) / p * d * (math.log(1 / (1 - p)) - rest)
        assert weight == pytest.approx(0.85, abs=0.01)

    @pytest.mark.parametrize(("samples", "p"), [(2, 0.5), (50, 0.5), (100, 0.5), (200, 0.75)])
    def test_is_clamped_for_few_samples(self, samples, p):
        assert rbo_persistence(samples) == pytest.approx(p)
        assert rbo(*np.random.default_rng(0).normal(size=(2, samples))).persistence == p

    def test_out_of_range_is_refused(self):
        for p in (1, -0.1):
            with pytest.raises(ValueError, match="from 0 to below 1"):
                rbo(np.arange(3.0), np.arange(3.0), persistence=p)


class TestTies:
    def test_random_orders_undo_what_ids_make_agree(self):
        generator = np.random.default_rng(0)
        counts = generator.integers(0, 2, size=(2, 400)).astype(float)  # unrelated
        found = rbo(*counts)
        by_ids, random = found.value, found.random_ties
        assert by_ids > 2 * random.value
        assert random.low < random.value < random.high
        assert random.value == pytest.approx(0.02, abs=0.03)

    def test_follow_the_seed(self):
        counts = np.random.default_rng(0).integers(0, 3, size=(2, 60)).astype(float)
        assert rbo(*counts, seed=1).random_ties == rbo(*counts, seed=1).random_ties
        assert rbo(*counts, seed=1).random_ties != rbo(*counts, seed=2).random_ties
        assert rbo(*counts, seed=1).value == rbo(*counts, seed=2).value

    def test_without_ties_nothing_is_random(self):
        found = rbo(*np.random.default_rng(0).normal(size=(2, 60)))
        assert found.random_ties.value == found.random_ties.low == found.value


class TestInterval:
    def test_covers_the_population_value(self):
        generator = np.random.default_rng(0)

        def views(samples):
            return generator.normal(size=samples) + 0.5 * generator.normal(size=(2, samples))

        truth = rbo(*views(100_000)).value
        found = [rbo(*views(500), draws=60) for _ in range(60)]
        covered = np.mean([one.low <= truth <= one.high for one in found])
        assert 0.85 <= covered <= 1

    def test_none_is_asked_for(self):
        assert math.isnan(rbo(np.arange(9.0), np.arange(9.0)).low)


class TestMissing:
    @pytest.mark.parametrize(
        ("x", "y", "reason"),
        [
            ([1.0], [2.0], "needs 2 samples with both scores, got 1"),
            ([1.0, 1, 1], [1.0, 2, 3], "all samples tie in x"),
            ([1.0, np.nan], [np.nan, 2], "needs 2 samples with both scores, got 0; 2 ids left out"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, x, y, reason):
        found = rbo(np.array(x), np.array(y))
        assert math.isnan(found.value)
        assert found.reason.startswith(reason)

    def test_nan_leaves_and_is_counted(self):
        x, y = np.random.default_rng(0).normal(size=(2, 40))
        expected = rbo(x[2:], y[2:]).value
        x, y = x.copy(), y.copy()
        x[0] = y[1] = np.nan
        assert (rbo(x, y).value, rbo(x, y).reason) == (expected, "2 ids left out for NaN")
