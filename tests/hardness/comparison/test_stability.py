import dataclasses
import itertools
import math
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import friedmanchisquare, rankdata, spearmanr, t

from hardness.comparison.estimate import Estimate
from hardness.comparison.intraclass import icc_c1, icc_ck
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.ranks import topk_overlaps
from hardness.comparison.reliability import reliability, seeds_for_r90, seeds_needed, spearman_brown
from hardness.comparison.stability import (
    disjoint_halves_m,
    kendall_w,
    mean_normalised_rank,
    spearman_pair_mean,
    spearman_within_class_pair_mean,
    stability,
    stability_and_mean_rank,
    topk_jaccard,
    topk_overlap_pair_mean,
)

# Few distinct values, so that ties are the rule.
tied_runs = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 25)),
    elements=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, math.inf]),
)


def two_classes(scores):
    return np.arange(scores.shape[1]) % 2


def jaccard_10(scores):
    return topk_jaccard(scores, 10)


def overlap_10(scores):
    return topk_overlap_pair_mean(scores, 10)


def within_two_classes(scores):
    return spearman_within_class_pair_mean(scores, two_classes(scores))


RUN_STATISTICS = [
    spearman_pair_mean,
    within_two_classes,
    kendall_w,
    jaccard_10,
    overlap_10,
]


def noisy_runs(runs, samples, *, seed=0, noise=1.0, decimals=1):
    """Runs of one common signal with noise of their own, rounded so that some samples tie."""
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=samples)
    return np.round(signal + noise * generator.normal(size=(runs, samples)), decimals)


def slow_within_class(x, y, labels):
    total = weight = 0
    for label in np.unique(labels):
        of_class = labels == label
        if np.ptp(x[of_class]) > 0 and np.ptp(y[of_class]) > 0:
            total += of_class.sum() * spearmanr(x[of_class], y[of_class]).statistic
            weight += of_class.sum()
    return total / weight


def slow_shares(scores, percent):
    k = percent / 100 * len(scores)
    shares = np.zeros(len(scores))
    for value in sorted(set(scores), reverse=True):
        tied = scores == value
        shares[tied] = min(1, (k - shares.sum()) / tied.sum())
    return shares


class TestSpearmanPairMean:
    def test_three_runs_by_hand(self):
        # Squared rank differences 2, 8 and 6 of 4 samples: 1 - 6 d / 60 = 0.8, 0.2, 0.4.
        scores = np.array([[1.0, 2, 3, 4], [1, 3, 2, 4], [3, 2, 1, 4]])
        result = spearman_pair_mean(scores)
        assert result.value == pytest.approx((0.8 + 0.2 + 0.4) / 3)

    @pytest.mark.parametrize("runs", [2, 3, 7])
    def test_equals_scipy_with_ties(self, runs):
        scores = noisy_runs(runs, 60)
        expected = [spearmanr(scores[i], scores[j])[0] for i, j in combinations(range(runs), 2)]
        assert spearman_pair_mean(scores).value == pytest.approx(np.mean(expected), abs=1e-12)

    def test_infinities_are_ranks(self):
        finite = np.array([[1.0, 2, 3, 9, 9], [-9, 3, 2, 8, 9]])
        infinite = np.array([[1.0, 2, 3, np.inf, np.inf], [-np.inf, 3, 2, 8, np.inf]])
        assert spearman_pair_mean(infinite) == spearman_pair_mean(finite)

    def test_interval_covers_the_value_of_many_runs(self):
        generator = np.random.default_rng(0)
        noise = generator.normal(size=(200, 6, 100))
        runs = generator.normal(size=100) + noise
        truth = spearman_pair_mean(runs.reshape(-1, 100)).value
        results = [spearman_pair_mean(six) for six in runs]
        covered = np.mean([result.low <= truth <= result.high for result in results])
        assert 0.9 <= covered <= 0.99


class TestWithinClass:
    @pytest.mark.parametrize("classes", [1, 3, 10])
    def test_equals_a_loop_over_classes(self, classes):
        scores = noisy_runs(5, 80)
        labels = np.random.default_rng(1).integers(classes, size=80) * 7 - 3
        expected = [slow_within_class(x, y, labels) for x, y in combinations(scores, 2)]
        result = spearman_within_class_pair_mean(scores, labels).value
        assert result == pytest.approx(np.mean(expected), abs=1e-12)

    def test_one_class_is_the_pooled_value(self):
        scores = noisy_runs(5, 80)
        result = spearman_within_class_pair_mean(scores, np.full(80, 4))
        pooled = spearman_pair_mean(scores)
        assert dataclasses.astuple(result) == pytest.approx(dataclasses.astuple(pooled))

    def test_knowing_only_the_class_is_stable_pooled_and_not_within(self):
        labels = np.random.default_rng(0).integers(10, size=3000)
        scores = labels * 5 + np.random.default_rng(1).normal(size=(4, 3000))
        result = stability(scores, labels)
        assert result.spearman_pair_mean.value > 0.9
        assert abs(result.spearman_within_class_pair_mean.value) < 0.05

    def test_a_constant_class_has_no_weight(self):
        scores = np.array([[1.0, 2, 3, 7, 7], [1, 2, 3, 8, 9]])
        labels = np.array([0, 0, 0, 1, 1])
        assert spearman_within_class_pair_mean(scores, labels).value == pytest.approx(1)

    def test_only_constant_classes_leave_a_reason(self):
        scores = np.array([[1.0, 1, 2, 2], [3, 3, 1, 1]])
        result = spearman_within_class_pair_mean(scores, np.array([0, 0, 1, 1]))
        assert math.isnan(result.value)
        assert "no class" in result.reason

    def test_labels_must_match(self):
        with pytest.raises(ValueError, match=r"expected labels \[samples\] of 10 samples; got"):
            stability(noisy_runs(2, 10), np.zeros(9, dtype=np.int64))

    def test_many_classes(self):
        scores = noisy_runs(3, 1200, decimals=9)
        labels = np.repeat(np.arange(400), 3)
        expected = [slow_within_class(x, y, labels) for x, y in combinations(scores, 2)]
        result = spearman_within_class_pair_mean(scores, labels).value
        assert result == pytest.approx(np.mean(expected), abs=1e-12)


class TestKendallW:
    def test_by_hand(self):
        # Rank sums 3, 6, 9 of three equal runs against their mean 6: 12 * 18 / (9 * 24) = 1.
        assert kendall_w(np.array([[1.0, 2, 3]] * 3)).value == pytest.approx(1)
        # Two opposite runs have equal sums.
        assert kendall_w(np.array([[1.0, 2, 3], [3, 2, 1]])).value == 0

    def test_equals_the_published_formula_with_ties(self):
        scores = noisy_runs(5, 40, decimals=0)
        ranks = rankdata(scores, axis=1)
        m, n = scores.shape
        sums = ranks.sum(axis=0)
        ties = sum(
            count**3 - count for run in scores for count in np.unique(run, return_counts=True)[1]
        )
        expected = 12 * np.sum((sums - sums.mean()) ** 2) / (m**2 * (n**3 - n) - m * ties)
        assert kendall_w(scores).value == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("decimals", [0, 9])
    def test_is_friedmans_statistic(self, decimals):
        scores = noisy_runs(5, 40, decimals=decimals)
        expected = friedmanchisquare(*scores.T).statistic / (5 * 39)
        assert kendall_w(scores).value == pytest.approx(expected, rel=1e-12)

    def test_without_ties_follows_from_the_mean_spearman(self):
        scores = noisy_runs(6, 50, decimals=12)
        expected = (1 + 5 * spearman_pair_mean(scores).value) / 6
        assert kendall_w(scores).value == pytest.approx(expected, rel=1e-12)


class TestTopK:
    def test_a_cut_tie_is_shared_out(self):
        # The top 2 of 4: 9 for sure, and half of each 5.
        runs = np.array([[9.0, 5, 5, 1], [1, 9, 5, 5]])
        # Shares 1, .5, .5, 0 and 0, 1, .5, .5: minima add up to 1, maxima to 3.
        assert topk_jaccard(runs, 50).value == pytest.approx(1 / 3)
        assert topk_overlap_pair_mean(runs, 50).value == pytest.approx(0.5)

    def test_a_top_need_not_be_whole(self):
        # 5 % of 30 is 1.5: the hardest, and half of the next. The other run swaps the two.
        runs = np.tile(np.arange(30.0), (2, 1))
        runs[1, [28, 29]] = 29, 28
        assert topk_overlap_pair_mean(runs, 5).value == pytest.approx((0.5 + 0.5) / 1.5)
        assert topk_jaccard(runs, 5).value == pytest.approx((0.5 + 0.5) / (1 + 1))

    @pytest.mark.parametrize("percent", [5, 10, 20, 33.3, 100])
    @pytest.mark.parametrize("decimals", [0, 9])
    def test_equals_a_loop_over_pairs(self, percent, decimals):
        scores = noisy_runs(4, 70, decimals=decimals)
        shares = [slow_shares(run, percent) for run in scores]
        pairs = list(combinations(shares, 2))
        jaccard = [np.minimum(x, y).sum() / np.maximum(x, y).sum() for x, y in pairs]
        overlap = [np.minimum(x, y).sum() / x.sum() for x, y in pairs]
        assert topk_jaccard(scores, percent).value == pytest.approx(np.mean(jaccard), rel=1e-9)
        result = topk_overlap_pair_mean(scores, percent).value
        assert result == pytest.approx(np.mean(overlap), rel=1e-9)

    def test_unrelated_runs_reach_the_chance_level(self):
        scores = np.random.default_rng(0).normal(size=(6, 20_000))
        for percent in (5, 10, 20):
            expected = percent / (200 - percent)
            assert topk_jaccard(scores, percent).value == pytest.approx(expected, abs=0.01)
            overlap = topk_overlap_pair_mean(scores, percent).value
            assert overlap == pytest.approx(percent / 100, abs=0.01)

    @pytest.mark.parametrize("percent", [0, -5, 101, math.nan])
    def test_a_size_outside_0_to_100_is_refused(self, percent):
        with pytest.raises(ValueError, match="percent: expected from 1 to 100"):
            topk_jaccard(noisy_runs(2, 10), percent)

    @given(tied_runs, st.sampled_from([5, 10, 20, 50, 100]))
    def test_all_pairs_at_once_equal_one_at_a_time(self, scores, percent):
        shares = np.array([slow_shares(run, percent) for run in scores])
        minima = np.minimum(shares[:, None], shares[None]).sum(axis=2)
        expected = minima / (percent * scores.shape[1] / 100)
        assert topk_overlaps(scores, scores, percent) == pytest.approx(expected)
        assert topk_overlaps(scores[:1], scores, percent) == pytest.approx(expected[:1])


class TestJackknife:
    @pytest.mark.parametrize("statistic", RUN_STATISTICS)
    @pytest.mark.parametrize("runs", [4, 9])
    def test_leaves_out_each_run_in_turn(self, statistic, runs):
        scores = noisy_runs(runs, 90)
        left_out = np.array([statistic(np.delete(scores, i, axis=0)).value for i in range(runs)])
        error = math.sqrt((runs - 1) / runs * np.sum((left_out - left_out.mean()) ** 2))
        reach = t.ppf(0.975, runs - 1) * error
        result = statistic(scores)
        assert (result.low, result.high) == pytest.approx(
            (result.value - reach, result.value + reach), rel=1e-9
        )
        assert not result.reason

    @pytest.mark.parametrize("statistic", RUN_STATISTICS)
    @pytest.mark.parametrize("runs", [2, 3])
    def test_too_few_runs_have_a_value_and_no_interval(self, statistic, runs):
        result = statistic(noisy_runs(runs, 30))
        assert math.isfinite(result.value)
        assert math.isnan(result.low)
        assert math.isnan(result.high)
        assert result.reason == f"no interval: needs 4 runs, got {runs}"


class TestMissing:
    @pytest.mark.parametrize("statistic", RUN_STATISTICS)
    @pytest.mark.parametrize(
        ("scores", "reason"),
        [
            (np.zeros((0, 5)), "needs 2 runs, got 0"),
            (np.arange(5.0)[None], "needs 2 runs, got 1"),
            (np.zeros((3, 0)), "needs 2 samples with a score in every run, got 0"),
            (np.zeros((3, 1)), "needs 2 samples with a score in every run, got 1"),
            (np.array([[1.0, 2, 3], [4, 4, 4]]), "all samples tie in row 1"),
            (np.ones((5, 6)), "all samples tie in row 0, 1, 2, 3, 4"),
            (np.full((2, 3), np.nan), "needs 2 samples"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, statistic, scores, reason):
        result = statistic(scores)
        assert math.isnan(result.value)
        assert math.isnan(result.low)
        assert result.reason.startswith(reason)

    def test_all_of_them_at_once(self):
        result = stability(np.full((3, 4), np.nan), np.zeros(4, dtype=np.int64))
        assert (result.samples, result.dropped, result.runs) == (0, 4, 3)
        for field in dataclasses.fields(result)[3:]:
            assert math.isnan(getattr(result, field.name).value)
            assert getattr(result, field.name).reason

    @pytest.mark.parametrize("statistic", RUN_STATISTICS)
    def test_ids_with_nan_leave_and_are_counted(self, statistic):
        scores = noisy_runs(5, 40)
        scores[1, 38] = scores[3, 39] = scores[4, 39] = np.nan
        without = statistic(scores[:, :38])
        assert statistic(scores) == dataclasses.replace(without, reason="2 ids left out for NaN")

    def test_stability_counts_them_once(self):
        scores = noisy_runs(5, 40)
        labels = two_classes(scores)
        whole = stability(scores[:, :38], labels[:38])
        scores[1, 38] = scores[3, 39] = np.nan
        result = stability(scores, labels)
        assert (result.samples, result.dropped) == (38, 2)
        assert dataclasses.replace(result, dropped=0) == whole

    def test_two_samples_suffice(self):
        result = stability(np.array([[1.0, 2], [1, 2]]), np.array([0, 0]))
        assert result.spearman_pair_mean.value == 1
        assert result.kendall_w.value == 1
        assert result.topk_jaccard_5.value == 1


class TestSpearmanBrown:
    def test_published_check(self):
        assert spearman_brown(0.892, 5) == pytest.approx(0.976, abs=5e-4)

    def test_one_run_is_itself(self):
        r_1 = np.array([-0.4, 0.0, 0.3, 1.0])
        assert spearman_brown(r_1, 1).tolist() == r_1.tolist()

    def test_broadcasts(self):
        result = spearman_brown(np.array([[0.5], [0.2]]), np.array([1, 2, 9]))
        assert result == pytest.approx(np.array([[0.5, 2 / 3, 0.9], [0.2, 1 / 3, 9 / 13]]))

    def test_keeps_order_across_its_pole(self):
        result = spearman_brown(np.array([-1.0, -0.5, -1 / 3, -0.3, 0.0]), 4)
        assert result[:2].tolist() == [-np.inf, -np.inf]
        assert (np.diff(result[2:]) > 0).all()

    def test_no_runs_are_refused(self):
        with pytest.raises(ValueError, match="m: expected at least 1 run"):
            spearman_brown(0.5, 0)

    def test_predicts_the_correlation_of_disjoint_means(self):
        generator = np.random.default_rng(0)
        runs = generator.normal(size=20_000) + generator.normal(size=(8, 20_000))
        r_1 = np.corrcoef(runs)[np.triu_indices(8, 1)].mean()
        measured = np.corrcoef(runs[:4].mean(axis=0), runs[4:].mean(axis=0))[0, 1]
        assert spearman_brown(r_1, 4) == pytest.approx(measured, abs=0.01)


class TestSeeds:
    @pytest.mark.parametrize(
        ("r_1", "seeds"),
        [(0.77, 3), (0.52, 9), (0.93, 1), (0.5, 9), (0.6, 6), (0.75, 3), (0.9, 1), (1.0, 0)],
    )
    def test_worked(self, r_1, seeds):
        assert seeds_for_r90(r_1) == seeds

    @pytest.mark.parametrize("r_1", [0.0, -0.2])
    def test_runs_that_disagree_never_suffice(self, r_1):
        assert seeds_for_r90(r_1) == math.inf
        assert "r_1 <= 0" in seeds_needed(Estimate(value=r_1)).reason

    def test_unknown_stays_unknown(self):
        assert math.isnan(seeds_for_r90(math.nan))

    @given(st.floats(0.01, 0.999))
    def test_are_the_fewest_that_reach_it(self, r_1):
        seeds = int(seeds_for_r90(r_1))
        assert spearman_brown(r_1, seeds) >= 0.9 - 1e-9
        if seeds > 1:
            assert spearman_brown(r_1, seeds - 1) < 0.9

    def test_intervals_are_mapped_end_by_end(self):
        r_1 = Estimate(value=0.5, low=0.25, high=0.75)
        assert seeds_needed(r_1) == Estimate(value=9.0, low=3.0, high=27.0)
        mapped = reliability(r_1, 3)
        assert (mapped.low, mapped.value, mapped.high) == pytest.approx((0.5, 0.75, 0.9))

    def test_an_end_beyond_the_pole_is_unbounded(self):
        result = reliability(Estimate(value=0.1, low=-0.6, high=0.8), 10)
        assert result.low == -math.inf
        assert result.value < result.high < 1


class TestStability:
    def test_says_what_the_single_functions_say(self):
        scores = noisy_runs(5, 60)
        labels = two_classes(scores)
        result = stability(scores, labels)
        r_1 = spearman_pair_mean(scores)
        assert result.spearman_pair_mean == r_1
        assert result.kendall_w == kendall_w(scores)
        assert result.reliability == reliability(r_1, 5)
        assert result.seeds_for_r90 == seeds_needed(r_1)
        within = spearman_within_class_pair_mean(scores, labels)
        assert result.spearman_within_class_pair_mean == within
        for percent in (5, 10, 20):
            assert getattr(result, f"topk_jaccard_{percent}") == topk_jaccard(scores, percent)
            overlap = topk_overlap_pair_mean(scores, percent)
            assert getattr(result, f"topk_overlap_{percent}") == overlap

    def test_equal_runs_agree_entirely(self):
        result = stability(np.tile(np.arange(40.0), (4, 1)), np.zeros(40, dtype=np.int64))
        assert result.spearman_pair_mean.value == pytest.approx(1)
        assert result.topk_jaccard_5.value == pytest.approx(1)
        assert result.reliability.low == pytest.approx(1)

    @given(tied_runs, st.randoms(use_true_random=False))
    def test_ignores_the_order_of_samples_and_of_runs(self, scores, random):
        samples = random.sample(range(scores.shape[1]), scores.shape[1])
        runs = random.sample(range(len(scores)), len(scores))
        labels = two_classes(scores)
        before = stability(scores, labels)
        after = stability(scores[runs][:, samples], labels[samples])
        for field in dataclasses.fields(before)[3:]:
            first, second = getattr(before, field.name), getattr(after, field.name)
            if field.name == "seeds_for_r90":
                continue  # a step function
            for end in ("value", "low", "high"):
                expected = pytest.approx(getattr(first, end), abs=1e-6, rel=1e-6, nan_ok=True)
                assert getattr(second, end) == expected

    @given(tied_runs)
    def test_depends_on_order_alone(self, scores):
        before = stability(scores, two_classes(scores))
        after = stability(np.arctan(scores) * 3 + 1, two_classes(scores))
        for field in dataclasses.fields(before):
            if field.name in ("disjoint_halves", "icc_c1", "icc_ck"):
                continue  # of the scores themselves
            assert repr(getattr(before, field.name)) == repr(getattr(after, field.name))

    @given(tied_runs)
    def test_values_stay_in_their_bounds(self, scores):
        result = stability(scores, two_classes(scores))
        for name in ("spearman_pair_mean", "spearman_within_class_pair_mean"):
            value = getattr(result, name).value
            assert math.isnan(value) or -1 <= value <= 1
        for name in ("kendall_w", "topk_jaccard_5", "topk_jaccard_20", "topk_overlap_10"):
            value = getattr(result, name).value
            assert math.isnan(value) or -1e-12 <= value <= 1 + 1e-12


class TestMeanOverRuns:
    def test_infinities_move_to_the_edge_of_their_run(self):
        scores = np.array([[0.0, 5, np.inf, 2], [10, -np.inf, 30, 40]])
        assert mean_over_runs(scores).tolist() == [5, 7.5, 17.5, 21]

    def test_a_run_without_finite_scores_keeps_signs(self):
        scores = np.array([[np.inf, -np.inf], [5, 5]])
        assert mean_over_runs(scores).tolist() == [3, 2]

    def test_a_single_run_is_its_own_mean(self):
        assert mean_over_runs(np.array([[1.0, np.inf]])).tolist() == [1, np.inf]

    def test_nan_in_any_run_is_nan(self):
        result = mean_over_runs(np.array([[1.0, np.nan, np.inf], [1, 2, 3]]))
        assert np.isnan(result).tolist() == [False, True, False]


def anova(scores):
    """Mean squares of samples and of the rest in a two-way table, from its definition."""
    runs, samples = scores.shape
    rows, columns = scores.mean(axis=0), scores.mean(axis=1, keepdims=True)
    of_samples = runs * ((rows - scores.mean()) ** 2).sum() / (samples - 1)
    residual = scores - rows - columns + scores.mean()
    return of_samples, (residual**2).sum() / ((samples - 1) * (runs - 1))


class TestIntraclass:
    def test_by_hand(self):
        # Centred rows -1 0 1 and -2 -1 3: SS_R = (9 + 1 + 16) / 2 on 2 degrees, SS_E = 16 - 13.
        scores = np.array([[1.0, 2, 3], [3, 4, 8]])
        assert icc_c1(scores).value == pytest.approx((6.5 - 1.5) / (6.5 + 1.5))
        assert icc_ck(scores).value == pytest.approx((6.5 - 1.5) / 6.5)

    @pytest.mark.parametrize("runs", [2, 3, 6])
    def test_equals_pingouin(self, runs):
        scores = noisy_runs(runs, 40, seed=runs) * np.linspace(1, 2, runs)[:, None]
        table = pd.DataFrame(scores).melt(ignore_index=False).rename_axis("run").reset_index()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas deprecates what pingouin calls
            found = pingouin.intraclass_corr(
                table, targets="variable", raters="run", ratings="value"
            ).set_index("Type")["ICC"]
        names = ("ICC(C,1)", "ICC(C,k)") if "ICC(C,1)" in found else ("ICC3", "ICC3k")
        assert icc_c1(scores).value == pytest.approx(found[names[0]], abs=1e-9)
        assert icc_ck(scores).value == pytest.approx(found[names[1]], abs=1e-9)

    def test_offsets_of_runs_change_nothing_unlike_absolute_agreement(self):
        scores = noisy_runs(4, 30)
        moved = scores + np.array([[0.0], [5], [-3], [100]])
        assert icc_c1(moved).value == pytest.approx(icc_c1(scores).value)

    def test_on_ranks_without_ties_is_the_mean_spearman(self):
        scores = np.exp(3 * noisy_runs(5, 50, decimals=12))
        expected = spearman_pair_mean(scores)
        found = icc_c1(scores, on_ranks=True)
        assert found.value == pytest.approx(expected.value)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))

    def test_interval_is_the_jackknife_over_runs(self):
        scores = noisy_runs(6, 30)
        rests = np.array([icc_c1(np.delete(scores, run, axis=0)).value for run in range(6)])
        error = math.sqrt(5 / 6 * np.sum((rests - np.mean(rests)) ** 2))
        reach = t.ppf(0.975, 5) * error
        found = icc_c1(scores)
        assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach))

    def test_infinities_stand_at_the_edge_of_their_run(self):
        infinite = np.array([[1.0, 2, 3, np.inf], [-np.inf, 3, 2, 8]])
        edge = np.array([[1.0, 2, 3, 3], [2, 3, 2, 8]])
        assert icc_c1(infinite) == icc_c1(edge)

    def test_has_no_interval_where_one_run_alone_varies(self):
        one, other = [np.inf, 0.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 0.0]
        found = icc_c1(np.array([one, one, other, one]))
        assert found.value == 0
        assert math.isnan(found.low)
        assert "only one run varies" in found.reason

    def test_nan_leaves_and_is_counted(self):
        scores = np.vstack([noisy_runs(4, 20), noisy_runs(1, 20)])
        holes = scores.copy()
        holes[2, [3, 7]] = np.nan
        found, expected = icc_c1(holes), icc_c1(np.delete(scores, [3, 7], axis=1))
        assert (found.value, found.low) == (expected.value, expected.low)
        assert found.reason == "2 ids left out for NaN"

    @pytest.mark.parametrize(
        ("scores", "reason"),
        [
            (np.ones((1, 5)), "needs 2 runs, got 1"),
            (np.ones((2, 1)), "needs 2 samples"),
            (np.array([[1.0, 1, 1], [1, 2, 3]]), "all samples tie in row 0"),
            (np.array([[np.inf, -3, -3], [1, np.inf, 1]]), "tie once infinities are replaced"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, scores, reason):
        for found in (icc_c1(scores), icc_ck(scores)):
            assert math.isnan(found.value)
            assert reason in found.reason

    def test_one_run_that_differs_leaves_no_interval(self):
        scores = np.full((4, 4), np.inf)
        scores[:, 0] = -2
        scores[0, 1] = 0
        found = icc_c1(scores)
        assert found.value == pytest.approx(0, abs=1e-12)
        assert math.isnan(found.low)
        assert found.reason.startswith(
            "no interval: once infinities are replaced, only one run varies"
        )

    @given(tied_runs)
    def test_equals_the_mean_squares(self, scores):
        scores = np.nan_to_num(scores, posinf=4)
        found = icc_c1(scores).value
        between, within = anova(scores)
        if not math.isnan(found):
            expected = (between - within) / (between + (len(scores) - 1) * within)
            assert found == pytest.approx(expected, abs=1e-9)
            assert -1 / (len(scores) - 1) - 1e-9 <= found <= 1 + 1e-9


class TestDisjointHalves:
    @pytest.mark.parametrize(("runs", "m"), [(2, 1), (4, 2), (5, 2), (6, 3), (6, 2)])
    def test_equals_a_loop_over_all_pairs_of_sets(self, runs, m):
        scores = noisy_runs(runs, 30)
        found = [
            spearmanr(scores[[*a]].mean(axis=0), scores[[*b]].mean(axis=0)).statistic
            for a in itertools.combinations(range(runs), m)
            for b in itertools.combinations(range(runs), m)
            if not {*a} & {*b}
        ]
        assert disjoint_halves_m(scores, m).value == pytest.approx(np.mean(found))
        assert f"{len(found) // 2} pairs of {m} runs" in disjoint_halves_m(scores, m).reason

    def test_of_single_runs_is_the_mean_over_pairs(self):
        scores = noisy_runs(7, 30)
        expected = spearman_pair_mean(scores).value
        assert disjoint_halves_m(scores, 1).value == pytest.approx(expected)

    def test_above_200_pairs_different_ones_are_drawn(self):
        scores = noisy_runs(12, 40)
        found = disjoint_halves_m(scores, 6)  # of 462
        assert "200 pairs of 6 runs" in found.reason
        assert found == disjoint_halves_m(scores, 6)
        assert found.value != disjoint_halves_m(scores, 6, seed=1).value
        every = disjoint_halves_m(scores, 6, most=462)
        assert "462 pairs" in every.reason
        assert found.value == pytest.approx(every.value, abs=0.01)

    def test_grows_with_runs_as_spearman_brown_predicts(self):
        scores = noisy_runs(8, 3000, decimals=6)
        measured = [disjoint_halves_m(scores, m).value for m in (1, 2, 4)]
        predicted = [spearman_brown(measured[0], m) for m in (1, 2, 4)]
        assert measured == pytest.approx(predicted, abs=0.02)

    def test_more_than_half_the_runs_are_refused(self):
        with pytest.raises(ValueError, match="from 1 to half of the 5 runs; got 3"):
            disjoint_halves_m(noisy_runs(5, 10), 3)
        with pytest.raises(ValueError, match="got 0"):
            disjoint_halves_m(noisy_runs(5, 10), 0)

    def test_nothing_to_compare_is_nan_with_the_reason(self):
        assert disjoint_halves_m(np.ones((1, 5)), 1).reason == "needs 2 runs, got 1"
        opposite = np.array([[1.0, 2, 3], [3, 2, 1], [1, 2, 3], [1, 3, 2]])
        assert disjoint_halves_m(opposite, 2).reason == "a mean of 2 runs ties on all samples"

    def test_the_table_takes_halves_of_few_samples_only(self, monkeypatch):
        scores, labels = noisy_runs(5, 30), np.zeros(30, dtype=np.int64)
        assert stability(scores, labels).disjoint_halves == disjoint_halves_m(scores, 2)
        monkeypatch.setattr("hardness.comparison.stability.MOST_SAMPLES_FOR_HALVES", 29)
        left_out = stability(scores, labels).disjoint_halves
        assert math.isnan(left_out.value)
        assert left_out.reason == "disjoint halves: left out above 29 samples"


@given(tied_runs, st.integers(0, 3))
def test_mean_rank_is_that_of_each_run_among_its_own_samples(scores, missing):
    scores = scores.copy()
    scores[0, :missing] = np.nan
    ranks = np.stack([rankdata(run, nan_policy="omit") for run in scores])
    sizes = np.isfinite(ranks).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        expected = ((ranks - 0.5) / sizes).mean(axis=0)
    np.testing.assert_array_equal(mean_normalised_rank(scores), expected)
    found, mean_rank = stability_and_mean_rank(scores, two_classes(scores))
    np.testing.assert_array_equal(mean_rank, expected)
    assert repr(found) == repr(stability(scores, two_classes(scores)))


@given(tied_runs, st.integers(0, 3))
def test_the_reliability_of_one_run_is_that_of_its_own_functions(scores, missing):
    scores = scores.copy()
    scores[0, :missing] = np.nan
    labels = two_classes(scores)
    pooled, within = stability(scores, labels).reliability_of_one
    assert repr(pooled) == repr(spearman_pair_mean(scores))
    assert repr(within) == repr(spearman_within_class_pair_mean(scores, labels))
