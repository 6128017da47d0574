import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from hardness.comparison.ranks import (
    ascending_order,
    centred_ranks,
    class_codes,
    class_mean_correlations,
)

# Few distinct values, so that ties are the rule.
tied_runs = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 25)),
    elements=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, math.inf]),
)


def two_classes(scores):
    return np.arange(scores.shape[1]) % 2


class TestRanks:
    @given(tied_runs)
    def test_are_scipys_average_ranks_about_their_mean(self, scores):
        expected = rankdata(scores, axis=1) - (scores.shape[1] + 1) / 2
        assert centred_ranks(scores).tolist() == expected.tolist()

    @given(tied_runs)
    def test_within_class_likewise(self, scores):
        codes = class_codes(two_classes(scores))
        ranks = centred_ranks(scores, codes)
        for code in np.unique(codes):
            of_class = scores[:, codes == code]
            expected = rankdata(of_class, axis=1) - (of_class.shape[1] + 1) / 2
            assert ranks[:, codes == code].tolist() == expected.tolist()


any_floats = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 3), st.integers(0, 25)),
    elements=st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0])),
)


class TestAscendingOrder:
    @given(any_floats)
    def test_is_numpys_stable_argsort(self, scores):
        expected = np.argsort(scores, axis=-1, kind="stable")
        assert ascending_order(scores).tolist() == expected.tolist()

    def test_keeps_numbers_apart_that_differ_in_any_one_bit(self):
        bits = np.uint64(1) << np.arange(52, dtype=np.uint64)
        scores = (np.float64(1).view(np.uint64) ^ bits).view(np.float64)[::-1]
        assert ascending_order(scores).tolist() == [*range(51, -1, -1)]
        assert ascending_order(-scores).tolist() == [*range(52)]

    def test_takes_float32_and_rows_that_are_not_contiguous(self):
        scores = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32).T
        assert ascending_order(scores).tolist() == np.argsort(scores, axis=1).tolist()


class TestClassMeanCorrelations:
    def test_are_numpys_own_inside_each_class_whatever_the_order_of_samples(self):
        generator = np.random.default_rng(0)
        codes = class_codes(generator.integers(3, size=60))
        x, y = (centred_ranks(generator.normal(size=(rows, 60)), codes) for rows in (2, 3))
        expected = np.zeros((2, 3))
        for code, size in enumerate(np.bincount(codes)):
            of_class = codes == code
            expected += size / 60 * np.corrcoef(x[:, of_class], y[:, of_class])[:2, 2:]
        found = class_mean_correlations(x, y, codes)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        shuffled = generator.permutation(60)
        again = class_mean_correlations(
            x[:, shuffled].astype(np.float32), y[:, shuffled], codes[shuffled]
        )
        assert again.tolist() == found.tolist()  # sums of halves have no last bits to lose
