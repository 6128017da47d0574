import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from hardness.comparison.variance import variance_components

few_values = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 3), st.integers(2, 4), st.integers(2, 12)),
    elements=st.sampled_from([-1.0, 0.0, 2.0, 5.0, math.inf]),
)


def shares(found):
    return [found.sample, found.sample_by_configuration, found.seed]


def planted(sample, mixed, seed, *, samples=4000, configurations=3, runs=4):
    """Scores with components of these standard deviations."""
    generator = np.random.default_rng(0)
    own = sample * generator.normal(size=samples)
    return [
        own + mixed * generator.normal(size=samples) + seed * generator.normal(size=(runs, samples))
        for _ in range(configurations)
    ]


def slow_variances(scores):
    """From the sums of squares of a table with a row a measurement, a mean looked up for each."""
    table = pd.DataFrame(
        [
            {"n": n, "c": c, "y": (rank - 0.5) / rows.shape[1]}
            for c, rows in enumerate(scores)
            for run in rows
            for n, rank in enumerate(rankdata(run))
        ]
    )
    table["y"] -= 0.5  # the mean of every run
    n, c, k = table["n"].nunique(), table["c"].nunique(), len(scores[0])
    of_n = table.groupby("n")["y"].transform("mean")
    of_nc = table.groupby(["n", "c"])["y"].transform("mean")
    ms_n = (of_n**2).sum() / (n - 1)
    ms_nc = ((of_nc - of_n) ** 2).sum() / ((n - 1) * (c - 1))
    ms_e = ((table["y"] - of_nc) ** 2).sum() / ((n - 1) * c * (k - 1))
    return [max(v, 0) for v in ((ms_n - ms_nc) / (c * k), (ms_nc - ms_e) / k, ms_e)]


class TestVarianceComponents:
    def test_by_hand(self):
        # Ranks less 2, over 3. Means of the configurations -1 .5 .5 and -.5 -.5 1, of both
        # -.75 0 .75: MS_n = 4 x 1.125 / 2, MS_nc = 2 x 0.75 / 2, MS_e = 2 / 4, all over 9.
        scores = [np.array([[1.0, 2, 3], [1, 3, 2]]), np.array([[1.0, 2, 3], [2, 1, 3]])]
        found = variance_components(scores)
        expected = [(2.25 - 0.75) / 4 / 9, (0.75 - 0.5) / 2 / 9, 0.5 / 9]
        assert found.variances == pytest.approx(expected)
        assert shares(found) == pytest.approx([0.375, 0.125, 0.5])
        assert (found.configurations, found.runs, found.samples, found.dropped) == (2, 2, 3, 0)

    @given(few_values)
    def test_equals_a_loop_over_the_table(self, scores):
        found = variance_components([*scores])
        if (scores == scores[..., :1]).all(axis=2).any():
            assert "all samples tie in" in found.reason
            assert math.isnan(found.sample)
            return
        assert found.variances == pytest.approx(slow_variances(scores), abs=1e-12)
        assert sum(shares(found)) == pytest.approx(1)
        assert min(shares(found)) >= 0

    @pytest.mark.parametrize("deviations", [(1, 1, 1), (2, 0, 1), (1, 0.5, 2)])
    def test_planted_components_are_found(self, deviations):
        squares = np.square(deviations)
        found = variance_components(planted(*deviations))
        # Ranks of a normal score, not the score: near, not equal.
        assert shares(found) == pytest.approx(squares / squares.sum(), abs=0.04)

    def test_a_negative_estimate_is_none_of_it(self):
        found = variance_components(planted(0, 0, 1, samples=50))
        assert 0 in shares(found)
        assert sum(shares(found)) == pytest.approx(1)

    def test_runs_only_matter_through_their_order(self):
        scores = planted(1, 1, 1, samples=60)
        moved = [np.exp(rows) + np.arange(len(rows))[:, None] for rows in scores]
        assert variance_components(moved) == variance_components(scores)

    def test_more_runs_than_the_others_have_are_left_out(self):
        scores = planted(1, 1, 1, samples=60)
        found = variance_components([scores[0], scores[1][:2], scores[2]])
        expected = variance_components([rows[:2] for rows in scores])
        assert shares(found) == shares(expected)
        assert (found.runs, found.reason) == (2, "4 runs left out for balance")

    def test_nan_leaves_and_is_counted(self):
        scores = planted(1, 1, 1, samples=60)
        holes = [rows.copy() for rows in scores]
        holes[1][2, [5, 9]] = np.nan
        found = variance_components(holes)
        expected = variance_components([np.delete(rows, [5, 9], axis=1) for rows in scores])
        assert shares(found) == shares(expected)
        assert (found.samples, found.dropped) == (58, 2)

    @pytest.mark.parametrize(
        ("scores", "reason"),
        [
            ([], "needs 2 configurations with 2 runs each; got 0 with 0"),
            ([np.ones((3, 4))], "got 1 with 3"),
            ([np.ones((3, 4)), np.ones((1, 4))], "got 2 with 1"),
            ([np.ones((2, 1)), np.ones((2, 1))], "needs 2 samples"),
            ([np.arange(6.0).reshape(2, 3), np.ones((2, 3))], "tie in run 0 of 1, run 1 of 1"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, scores, reason):
        found = variance_components(scores)
        assert np.isnan(shares(found)).all()
        assert reason in found.reason

    def test_samples_must_be_the_same(self):
        with pytest.raises(ValueError, match="the same samples in every configuration"):
            variance_components([np.ones((2, 3)), np.ones((2, 4))])
