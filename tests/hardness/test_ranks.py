import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from hardness.ranks import centred_ranks, class_codes

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
