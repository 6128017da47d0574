import math

import numpy as np
import pytest
from scipy.stats import norm

from hardness.comparison.resampling import ends_of_halves, percentile_ends, simultaneous_reach


class TestReach:
    @pytest.mark.parametrize("statistics", [1, 5, 40])
    def test_of_independent_statistics_is_sidaks(self, statistics):
        drawn = np.random.default_rng(0).normal(size=(20_000, statistics))
        expected = norm.ppf((1 + 0.95 ** (1 / statistics)) / 2)
        assert simultaneous_reach(drawn, np.ones(statistics)) == pytest.approx(expected, abs=0.06)

    def test_of_equal_statistics_is_that_of_one(self):
        drawn = np.repeat(np.random.default_rng(0).normal(size=(20_000, 1)), 40, axis=1)
        assert simultaneous_reach(drawn, np.ones(40)) == pytest.approx(1.96, abs=0.04)

    def test_constants_and_missing_draws_stay_out(self):
        drawn = np.random.default_rng(0).normal(size=(2000, 3))
        reach = simultaneous_reach(drawn, np.ones(3))
        more = np.column_stack([drawn, np.zeros(2000), np.full(2000, np.nan)])
        assert simultaneous_reach(more, np.array([1.0, 1, 1, 0, np.nan])) == reach

    def test_nothing_to_reach_is_nan(self):
        assert math.isnan(simultaneous_reach(np.empty((0, 2)), np.ones(2)))
        assert math.isnan(simultaneous_reach(np.zeros((5, 1)), np.zeros(1)))


class TestPercentiles:
    def test_missing_draws_do_not_count(self):
        drawn = np.column_stack([np.arange(41.0), np.r_[np.arange(21.0), [np.nan] * 20]])
        low, high = percentile_ends(drawn)
        assert low.tolist() == [1, 0.5]
        assert high.tolist() == [39, 19.5]

    def test_no_draw_is_nan(self):
        assert np.isnan(percentile_ends(np.empty((0, 2)))).all()
        assert np.isnan(percentile_ends(np.full((3, 1), np.nan))).all()


class TestHalves:
    def test_of_a_mean_vary_as_the_mean_does(self):
        rows = np.random.default_rng(0).normal(size=(1, 4000))
        low, high = ends_of_halves(lambda half: float(half.mean()), rows, draws=2000, seed=0)
        assert (high - low) / (2 * 1.96 / math.sqrt(4000)) == pytest.approx(1, abs=0.1)

    def test_hold_no_sample_twice(self):
        def distinct(half):
            assert len(np.unique(half)) == half.shape[1] == 5
            return 0.0

        assert ends_of_halves(distinct, np.arange(11.0)[None], draws=5, seed=0) == (0, 0)

    def test_few_samples_have_none(self):
        assert math.isnan(ends_of_halves(lambda _: 0.0, np.ones((1, 3)), draws=5, seed=0)[0])
