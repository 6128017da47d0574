import dataclasses
import math
from itertools import combinations

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from hardness.comparison import agreement_details
from hardness.comparison.agreement_details import with_details
from hardness.comparison.agreement_table import agreement, agreement_of_pairs
from hardness.comparison.correlation import (
    disattenuated,
    kendall_tau_b,
    partial_spearman,
    spearman,
    spearman_within_class,
    topk_overlap,
)
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.estimate import Estimate
from hardness.comparison.reliability import spearman_brown
from hardness.comparison.stability import spearman_pair_mean, spearman_within_class_pair_mean
from hardness.comparison.supervised_reference import supervised_reference

POINTS = [
    "spearman",
    "topk_overlap_5",
    "topk_overlap_10",
    "topk_overlap_20",
    "spearman_within_class",
    "disattenuated",
    "disattenuated_within_class",
]
ENDS = [
    "spearman_low",
    "spearman_high",
    "spearman_within_class_low",
    "spearman_within_class_high",
]
DETAILS = ["kendall_tau_b", *ENDS]
MEMBERS = ("mean_loss", "aum", "cartography_confidence", "forgetting_events", "fslt")


@st.composite
def tied_pairs(draw):
    """Two score vectors with many ties, infinities and NaN, and labels of up to three classes."""
    samples = draw(st.integers(1, 25))
    values = st.sampled_from([-2.0, 0.0, 0.5, 1.0, 3.0, math.inf, math.nan])
    x, y = (draw(hnp.arrays(np.float64, samples, elements=values)) for _ in range(2))
    return x, y, draw(hnp.arrays(np.int64, samples, elements=st.integers(0, 2)))


def random_pair(samples=80, *, seed=0, decimals=1):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=samples)
    y = x + generator.normal(size=samples)
    return np.round(x, decimals), np.round(y, decimals), generator.integers(4, size=samples)


def metric(name, runs, samples=120, *, seed, decimals=2, ids=None):
    """A metric that sees a common signal, one part of its own and noise that differs by run."""
    signal = np.random.default_rng(99).normal(size=samples)
    generator = np.random.default_rng(seed)
    scores = signal + generator.normal(size=samples) + generator.normal(size=(runs, samples))
    ids = tuple(f"run{i}" for i in range(runs)) if ids is None else ids
    return ScoreSet(name=name, scores=np.round(scores, decimals), runs=ids)


def deterministic(name, scores):
    return ScoreSet(name=name, scores=np.asarray(scores, dtype=np.float64)[None])


def some_labels(samples=120):
    return np.random.default_rng(7).integers(3, size=samples)


def slow_within_class(x, y, labels):
    total = weight = 0
    for label in np.unique(labels):
        of_class = labels == label
        if np.ptp(x[of_class]) > 0 and np.ptp(y[of_class]) > 0:
            total += of_class.sum() * spearmanr(x[of_class], y[of_class]).statistic
            weight += of_class.sum()
    return total / weight


def both_ways(runs):
    """Every way to give one half of the runs to x and the other to y."""
    for size in {runs // 2, runs - runs // 2}:
        for half in combinations(range(runs), size):
            yield list(half), [run for run in range(runs) if run not in half]


class TestSpearman:
    def test_by_hand(self):
        # Squared rank differences 0, 1, 1, 0: 1 - 6 * 2 / 60.
        result = spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 30, 20, 40]))
        assert result.value == pytest.approx(0.8)

    def test_equals_scipy_with_ties(self):
        x, y, _ = random_pair(decimals=0)
        assert spearman(x, y).value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)

    def test_nan_leaves_in_pairs_and_is_counted(self):
        x, y, _ = random_pair(decimals=0)
        x[3] = y[4] = x[5] = y[5] = np.nan
        kept = np.delete(np.arange(80), [3, 4, 5])
        result = spearman(x, y)
        assert result.value == pytest.approx(spearmanr(x[kept], y[kept]).statistic, abs=1e-12)
        assert result.reason == "3 ids left out for NaN"

    def test_infinities_are_ranks(self):
        x, y = np.array([1.0, 2, np.inf, np.inf]), np.array([-np.inf, 2, 3, 4])
        assert spearman(x, y) == spearman(np.array([1.0, 2, 9, 9]), np.array([1.0, 2, 3, 4]))


class TestKendall:
    @pytest.mark.parametrize("decimals", [0, 9])
    def test_equals_scipy(self, decimals):
        x, y, _ = random_pair(decimals=decimals)
        assert kendall_tau_b(x, y).value == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)

    def test_equals_counting_pairs(self):
        x, y, _ = random_pair(30, decimals=0)
        signs = [
            (np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in combinations(range(30), 2)
        ]
        a, b = np.array(signs).T
        expected = (a @ b) / math.sqrt((a @ a) * (b @ b))
        assert kendall_tau_b(x, y).value == pytest.approx(expected, abs=1e-12)


class TestTopK:
    def test_by_hand(self):
        # Top 2 of 4: x takes 9 and half of each 5, y the last two.
        x, y = np.array([9.0, 5, 5, 1]), np.array([0.0, 1, 2, 3])
        assert topk_overlap(x, y, 50).value == pytest.approx(0.25)

    def test_the_hardest_are_those_with_high_scores(self):
        x = np.arange(100.0)
        assert topk_overlap(x, x, 5).value == 1
        assert topk_overlap(x, -x, 20).value == 0

    def test_interval_of_halves_covers_the_population_value(self):
        generator = np.random.default_rng(0)
        truth = self.overlap_of_views(generator, 200_000).value
        found = [self.overlap_of_views(generator, 300, draws=100) for _ in range(100)]
        covered = np.mean([one.low <= truth <= one.high for one in found])
        assert 0.88 <= covered <= 1

    def overlap_of_views(self, generator, samples, draws=0):
        x, y = generator.normal(size=samples) + generator.normal(size=(2, samples))
        return topk_overlap(x, y, 10, draws=draws)

    def test_a_size_outside_0_to_100_is_refused(self):
        x = np.arange(5.0)
        with pytest.raises(ValueError, match="percent: expected from 1 to 100"):
            topk_overlap(x, x, 0)


class TestWithinClass:
    @pytest.mark.parametrize("decimals", [0, 9])
    def test_equals_a_loop_over_classes(self, decimals):
        x, y, labels = random_pair(decimals=decimals)
        expected = slow_within_class(x, y, labels)
        assert spearman_within_class(x, y, labels).value == pytest.approx(expected, abs=1e-12)

    def test_class_effects_alone_correlate_pooled_only(self):
        generator = np.random.default_rng(0)
        labels = generator.integers(10, size=5000)
        x, y = labels * 3 + generator.normal(size=(2, 5000))
        assert spearman(x, y).value > 0.9
        assert abs(spearman_within_class(x, y, labels).value) < 0.05

    def test_a_class_constant_on_one_side_has_no_weight(self):
        x, y = np.array([1.0, 2, 3, 7, 7]), np.array([1.0, 2, 3, 5, 4])
        labels = np.array([0, 0, 0, 1, 1])
        assert spearman_within_class(x, y, labels).value == pytest.approx(1)

    def test_only_constant_classes_leave_a_reason(self):
        x, y, labels = np.array([1.0, 1, 2, 2]), np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1])
        assert math.isnan(spearman_within_class(x, y, labels).value)
        assert "in no class" in spearman_within_class(x, y, labels).reason


class TestTwoVectors:
    @pytest.mark.parametrize(
        "statistic",
        [spearman, kendall_tau_b, lambda x, y: topk_overlap(x, y, 10)],
        ids=["spearman", "kendall", "topk"],
    )
    @pytest.mark.parametrize(
        ("x", "y", "reason"),
        [
            ([], [], "needs 2 samples with both scores, got 0"),
            ([1.0], [2.0], "needs 2 samples with both scores, got 1"),
            ([1.0, 2, np.nan], [1.0, np.nan, 3], "needs 2 samples with both scores, got 1; 2 ids"),
            ([1.0, 1, 1], [1.0, 2, 3], "all samples tie in x"),
            ([1.0, 2, 3], [4.0, 4, 4], "all samples tie in y"),
            ([1.0, 1], [2.0, 2], "all samples tie in x; all samples tie in y"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, statistic, x, y, reason):
        result = statistic(np.array(x), np.array(y))
        assert math.isnan(result.value)
        assert result.reason.startswith(reason)

    @given(tied_pairs(), st.randoms(use_true_random=False))
    def test_order_of_samples_side_and_monotone_transforms_change_nothing(self, pair, random):
        x, y, labels = pair
        order = random.sample(range(len(x)), len(x))
        moved = np.arctan(y)[order] * 2 - 5, x[order], labels[order]
        for statistic in (
            lambda x, y, _: spearman(x, y),
            lambda x, y, _: kendall_tau_b(x, y),
            lambda x, y, _: topk_overlap(x, y, 20),
            spearman_within_class,
        ):
            before, after = statistic(x, y, labels).value, statistic(*moved).value
            assert after == pytest.approx(before, abs=1e-9, nan_ok=True)
            assert math.isnan(before) or -1 - 1e-9 <= before <= 1 + 1e-9


class TestPartialSpearman:
    def test_by_hand(self):
        # r_xy = 0.6, r_xz = r_yz = 0.8: (0.6 - 0.64) / 0.36.
        x, y = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])
        control = np.array([1.0, 2, 4, 3])
        assert partial_spearman(x, y, control).value == pytest.approx(-0.04 / 0.36)

    @pytest.mark.parametrize("decimals", [0, 6])
    def test_equals_pingouin(self, decimals):
        x, y, _ = random_pair(seed=4, decimals=decimals)
        control = np.round(x + np.random.default_rng(5).normal(size=len(x)), decimals)
        table = pd.DataFrame({"x": x, "y": y, "control": control})
        expected = pingouin.partial_corr(table, "x", "y", "control", method="spearman")["r"].iloc[0]
        assert partial_spearman(x, y, control).value == pytest.approx(expected, abs=1e-9)

    def test_what_only_the_control_shares_is_gone(self):
        generator = np.random.default_rng(0)
        control = generator.normal(size=4000)
        x, y = control + generator.normal(size=(2, 4000))
        assert spearman(x, y).value > 0.45
        assert abs(partial_spearman(x, y, control).value) < 0.05

    def test_an_unrelated_control_changes_little(self):
        x, y, _ = random_pair(2000, decimals=6)
        control = np.random.default_rng(9).normal(size=2000)
        expected = spearman(x, y).value
        assert partial_spearman(x, y, control).value == pytest.approx(expected, abs=0.02)

    def test_nan_in_any_of_the_three_leaves_and_is_counted(self):
        x, y, _ = random_pair()
        control = np.random.default_rng(2).normal(size=len(x))
        expected = partial_spearman(x[3:], y[3:], control[3:]).value
        x, y, control = x.copy(), y.copy(), control.copy()
        x[0] = y[1] = control[2] = np.nan
        found = partial_spearman(x, y, control)
        assert found.value == pytest.approx(expected)
        assert found.reason == "3 ids left out for NaN"

    @pytest.mark.parametrize(
        ("control", "reason"),
        [
            ([1.0, 1, 1, 1], "all samples tie in control"),
            ([1.0, 2, 3, 4], "the control leaves nothing of x or of y"),
            ([4.0, 3, 2, 1], "the control leaves nothing of x or of y"),
            ([np.nan, np.nan, np.nan, 1], "needs 2 samples with all 3 scores, got 1; 3 ids"),
        ],
    )
    def test_nothing_left_is_nan_with_the_reason(self, control, reason):
        x, y = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3])
        found = partial_spearman(x, y, np.array(control))
        assert math.isnan(found.value)
        assert found.reason.startswith(reason)

    @given(tied_pairs(), st.randoms(use_true_random=False))
    def test_order_of_samples_and_monotone_transforms_change_nothing(self, pair, random):
        x, y, _ = pair
        control = np.arange(len(x)) % 3.0
        order = random.sample(range(len(x)), len(x))
        before = partial_spearman(x, y, control).value
        after = partial_spearman(np.arctan(x)[order], y[order], 2 * control[order]).value
        assert after == pytest.approx(before, abs=1e-9, nan_ok=True)
        assert math.isnan(before) or -1 <= before <= 1


class TestDisattenuated:
    def test_by_hand(self):
        assert disattenuated(0.3, 0.5, 0.72).value == pytest.approx(0.5)

    def test_an_excess_over_one_shows(self):
        assert disattenuated(0.9, 0.6, 0.6).value == pytest.approx(1.5)

    @pytest.mark.parametrize(
        ("rho", "x", "y", "reason"),
        [
            (0.3, 0.0, 0.5, "reliability of x is 0"),
            (0.3, 0.5, -0.1, "reliability of y is -0.1"),
            (0.3, math.nan, 0.5, "reliability of x is nan"),
            (math.nan, 0.5, 0.5, "no correlation"),
        ],
    )
    def test_nothing_to_correct_by_is_nan_with_the_reason(self, rho, x, y, reason):
        result = disattenuated(rho, x, y)
        assert math.isnan(result.value)
        assert result.reason.startswith(reason)


class TestReference:
    def test_by_hand(self):
        ranks = {
            "mean_loss": [[1.0, 2, 3, 4]],
            "aum": [[1.0, 2, 4, 3]],
            "cartography_confidence": [[4.0, 3, 2, 1]],
            "forgetting_events": [[0.0, 0, 5, 5]],
            "fslt": [[1.0, 2, 3, 4]],
        }
        scores = {key: np.array(value) for key, value in ranks.items()}
        # Of sample 0: loss cluster (0.125 + 0.125 + 0.875) / 3, other cluster (0.25 + 0.125) / 2.
        result = supervised_reference(scores)
        assert result[0, 0] == pytest.approx((1.125 / 3 + 0.375 / 2) / 2)
        assert supervised_reference(scores, without="aum")[0, 0] == pytest.approx(0.375 / 2)
        assert supervised_reference(scores, without="fslt")[0, 0] == pytest.approx(1.125 / 3)

    def test_equals_the_definition_run_by_run(self):
        scores = {m: metric(m, 3, seed=i).scores for i, m in enumerate(MEMBERS)}
        ranks = {m: (rankdata(runs, axis=1) - 0.5) / 120 for m, runs in scores.items()}
        first = np.mean([ranks[m] for m in MEMBERS[:3]], axis=0)
        second = np.mean([ranks[m] for m in MEMBERS[3:]], axis=0)
        assert supervised_reference(scores) == pytest.approx((first + second) / 2)

    def test_a_left_out_cluster_is_not_needed(self):
        scores = {m: metric(m, 2, seed=i).scores for i, m in enumerate(MEMBERS[3:])}
        assert supervised_reference(scores, without="mean_loss").shape == (2, 120)

    def test_a_missing_score_is_missing_in_that_run_only(self):
        scores = {m: metric(m, 2, samples=6, seed=i).scores for i, m in enumerate(MEMBERS)}
        scores["aum"][1, 4] = np.nan
        result = supervised_reference(scores)
        assert np.isnan(result).tolist() == [[False] * 6, [False] * 4 + [True, False]]
        rest = {m: np.delete(runs, 4, axis=1) for m, runs in scores.items()}
        assert np.delete(result[1], 4) == pytest.approx(supervised_reference(rest)[1])

    def test_refusals(self):
        scores = {m: np.zeros((1, 3)) for m in MEMBERS}
        with pytest.raises(ValueError, match="without: expected one of mean_loss, aum"):
            supervised_reference(scores, without="el2n")
        with pytest.raises(ValueError, match="expected aum, fslt for the reference; got"):
            supervised_reference({m: scores[m] for m in MEMBERS if m not in ("aum", "fslt")})
        with pytest.raises(ValueError, match="scores: expected one shape for all members; got"):
            supervised_reference(scores | {"fslt": np.zeros((2, 3))})


class TestScoreSet:
    def test_rows_and_runs_must_match(self):
        with pytest.raises(ValueError, match="got 2 rows and 1 ids"):
            ScoreSet(name="aum", scores=np.zeros((2, 3)), runs=("a",))
        with pytest.raises(ValueError, match="without randomness; got 2 rows and 0 ids"):
            ScoreSet(name="entropy", scores=np.zeros((2, 3)))

    def test_run_ids_may_not_repeat(self):
        with pytest.raises(ValueError, match="without repeats"):
            ScoreSet(name="aum", scores=np.zeros((2, 3)), runs=("a", "a"))


class TestTable:
    def test_no_shared_run_compares_means_over_all_runs(self):
        x = metric("x", 4, seed=1)
        y = metric("y", 3, seed=2, ids=("a", "b", "c"))
        labels = some_labels()
        row = agreement([x], [y], labels, draws=0).iloc[0]
        mean_x, mean_y = x.scores.mean(axis=0), y.scores.mean(axis=0)
        assert (row["left"], row["right"], row["samples"], row["dropped"]) == ("x", "y", 120, 0)
        assert (row["runs_left"], row["runs_right"]) == (4, 3)
        assert row["spearman"] == pytest.approx(spearman(mean_x, mean_y).value)
        assert row["kendall_tau_b"] == pytest.approx(kendall_tau_b(mean_x, mean_y).value)
        for percent in (5, 10, 20):
            expected = topk_overlap(mean_x, mean_y, percent).value
            assert row[f"topk_overlap_{percent}"] == pytest.approx(expected)
        within = spearman_within_class(mean_x, mean_y, labels).value
        assert row["spearman_within_class"] == pytest.approx(within)
        r_x = float(spearman_brown(spearman_pair_mean(x.scores).value, 4))
        r_y = float(spearman_brown(spearman_pair_mean(y.scores).value, 3))
        expected = disattenuated(row["spearman"], r_x, r_y).value
        assert row["disattenuated"] == pytest.approx(expected)
        r_x = float(spearman_brown(spearman_within_class_pair_mean(x.scores, labels).value, 4))
        r_y = float(spearman_brown(spearman_within_class_pair_mean(y.scores, labels).value, 3))
        expected = disattenuated(within, r_x, r_y).value
        assert row["disattenuated_within_class"] == pytest.approx(expected)
        assert row["reason"] == ""

    @pytest.mark.parametrize("runs", [2, 3, 4, 5])
    def test_shared_runs_are_halved_every_way(self, runs):
        x, y, labels = metric("x", runs, seed=1), metric("y", runs, seed=2), some_labels()
        row = agreement([x, y], None, labels, draws=0).iloc[0]
        r_x, r_y = (spearman_pair_mean(scores.scores).value for scores in (x, y))
        expected = {key: [] for key in [*POINTS, "kendall_tau_b"]}
        for a, b in both_ways(runs):
            mean_x, mean_y = x.scores[a].mean(axis=0), y.scores[b].mean(axis=0)
            rho = spearman(mean_x, mean_y).value
            noise = spearman_brown(r_x, len(a)) * spearman_brown(r_y, len(b))
            expected["spearman"].append(rho)
            expected["disattenuated"].append(rho / math.sqrt(noise))
            expected["kendall_tau_b"].append(kendall_tau_b(mean_x, mean_y).value)
            expected["topk_overlap_10"].append(topk_overlap(mean_x, mean_y, 10).value)
            within = spearman_within_class(mean_x, mean_y, labels).value
            expected["spearman_within_class"].append(within)
        for key, values in expected.items():
            if values:
                assert row[key] == pytest.approx(np.mean(values), abs=1e-12), key
        assert (row["runs_left"], row["runs_right"]) == (runs / 2, runs / 2)

    def test_many_runs_are_halved_at_random(self):
        x, y, labels = metric("x", 8, seed=1), metric("y", 8, seed=2), some_labels()

        def rho(**options):
            return agreement([x], [y], labels, draws=0, **options)["spearman"].iloc[0]

        assert rho(splits=5) == rho(splits=5)
        assert rho(splits=5) != rho(splits=5, seed=1)
        # All 35 splits: nothing is left to chance.
        assert rho(splits=35) == rho(splits=50, seed=1)
        assert rho(splits=34) == pytest.approx(rho(splits=35), abs=0.01)

    def test_only_the_shared_runs_are_halved(self):
        x = metric("x", 4, seed=1)
        y = metric("y", 3, seed=2, ids=("run3", "elsewhere", "run1"))
        row = agreement([x], [y], some_labels(), draws=0).iloc[0]
        first = spearman(x.scores[1], y.scores[0]).value
        second = spearman(x.scores[3], y.scores[2]).value
        assert row["spearman"] == pytest.approx((first + second) / 2)
        assert (row["runs_left"], row["runs_right"]) == (1, 1)

    def test_a_single_shared_run_gives_the_reason_and_no_number(self):
        x, y = metric("x", 1, seed=1), metric("y", 1, seed=2)
        row = agreement([x], [y], some_labels(), draws=10).iloc[0]
        assert row[POINTS + DETAILS].isna().all()
        assert row["reason"] == "one shared run (run0): no disjoint halves"
        assert (row["samples"], row["runs_left"], row["runs_right"]) == (120, 0, 0)

    def test_a_metric_without_randomness_has_reliability_one(self):
        x, y = metric("x", 4, seed=1), deterministic("entropy", metric("", 1, seed=2).scores[0])
        row = agreement([x], [y], some_labels(), draws=0).iloc[0]
        r_x = spearman_brown(spearman_pair_mean(x.scores).value, 4)
        assert row["disattenuated"] == pytest.approx(row["spearman"] / math.sqrt(r_x))
        assert (row["runs_left"], row["runs_right"]) == (4, 0)

    def test_two_metrics_without_randomness_need_no_correction(self):
        x, y, labels = random_pair()
        row = agreement([deterministic("x", x)], [deterministic("y", y)], labels, draws=0).iloc[0]
        assert row["disattenuated"] == row["spearman"] == pytest.approx(spearman(x, y).value)
        within = spearman_within_class(x, y, labels).value
        assert row["disattenuated_within_class"] == pytest.approx(within)

    def test_one_run_has_no_known_reliability(self):
        x, y = metric("x", 1, seed=1), metric("y", 4, seed=2, ids=("a", "b", "c", "d"))
        row = agreement([x], [y], some_labels(), draws=0).iloc[0]
        assert math.isfinite(row["spearman"])
        assert math.isnan(row["disattenuated"])
        assert "x: pooled reliability unknown (needs 2 runs, got 1)" in row["reason"]

    def test_runs_that_disagree_cannot_be_corrected(self):
        x = ScoreSet(name="x", scores=np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]]), runs=("a", "b"))
        row = agreement([x], [deterministic("y", range(4))], np.zeros(4, dtype=int), draws=0)
        assert math.isnan(row["disattenuated"].iloc[0])
        assert row["reason"].iloc[0].startswith("x: all samples tie")
        x = ScoreSet(name="x", scores=np.array([[1.0, 2, 3, 4], [4, 2, 3, 1]]), runs=("a", "b"))
        row = agreement([x], [deterministic("y", range(4))], np.zeros(4, dtype=int), draws=0)
        assert "x: pooled r_1 = -0.8 is not positive" in row["reason"].iloc[0]

    def test_nan_leaves_pair_by_pair(self):
        x, y, z = (metric(name, 4, seed=i) for i, name in enumerate("xyz"))
        x.scores[2, :5] = np.nan
        y.scores[0, 3:9] = np.nan
        labels = some_labels()
        table = agreement([x, y, z], None, labels, draws=30)
        assert table["dropped"].tolist() == [9, 5, 6]
        assert table["samples"].tolist() == [111, 115, 114]
        cut = [ScoreSet(name=s.name, scores=s.scores[:, 9:], runs=s.runs) for s in (x, y)]
        row = agreement(cut, None, labels[9:], draws=0).iloc[0]
        for key in ("spearman", "kendall_tau_b", "topk_overlap_20", "spearman_within_class"):
            assert table[key].iloc[0] == pytest.approx(row[key])
        assert (table["spearman_low"] < table["spearman"]).all()
        assert (table["spearman_high"] > table["spearman"]).all()

    def test_a_constant_metric_is_named(self):
        x, labels = metric("x", 4, seed=1), some_labels()
        y = ScoreSet(name="flat", scores=np.ones((4, 120)), runs=x.runs)
        row = agreement([x, y], None, labels, draws=20).iloc[0]
        assert row[POINTS + DETAILS].isna().all()
        assert row["reason"] == "flat: all samples tie"

    def test_constant_classes_leave_the_pooled_value(self):
        labels = np.repeat([0, 1], 10)
        x, y = deterministic("x", labels), deterministic("y", np.arange(20))
        row = agreement([x], [y], labels, draws=20).iloc[0]
        assert row["spearman"] > 0.8
        assert math.isnan(row["spearman_within_class"])
        assert math.isnan(row["spearman_within_class_low"])
        assert row["reason"] == "in no class do both vary"

    @pytest.mark.parametrize("samples", [0, 1, 2])
    def test_few_samples(self, samples):
        x, y = np.arange(samples, dtype=float), np.arange(samples, dtype=float)
        labels = np.zeros(samples, dtype=np.int64)
        row = agreement([deterministic("x", x)], [deterministic("y", y)], labels, draws=20).iloc[0]
        if samples < 2:
            assert math.isnan(row["spearman"])
            assert row["reason"] == f"needs 2 samples with both scores, got {samples}"
        else:
            assert row["spearman"] == pytest.approx(1)
            assert row["kendall_tau_b"] == pytest.approx(1)

    def test_pairs_and_columns(self):
        x, y, z = (metric(name, 2, seed=i) for i, name in enumerate("xyz"))
        triangle = agreement([x, y, z], None, some_labels(), draws=0)
        assert triangle[["left", "right"]].to_numpy().tolist() == [
            ["x", "y"],
            ["x", "z"],
            ["y", "z"],
        ]
        rectangle = agreement([x], [y, z], some_labels(), draws=0)
        assert rectangle.equals(triangle.iloc[:2])
        empty = agreement([x], None, some_labels())
        assert empty.empty
        assert list(empty.columns) == list(triangle.columns)
        assert set(POINTS + DETAILS) < set(empty.columns)

    def test_a_row_does_not_depend_on_the_others(self):
        sets = [metric(name, 6, seed=i) for i, name in enumerate("wxyz")]
        whole = agreement(sets, None, some_labels(), draws=30, splits=4)
        alone = agreement([sets[1]], [sets[3]], some_labels(), draws=30, splits=4)
        row = whole[(whole["left"] == "x") & (whole["right"] == "z")].iloc[0]
        for key in POINTS + DETAILS:
            assert row[key] == pytest.approx(alone.iloc[0][key], rel=1e-12)

    def test_a_set_with_itself_measures_its_own_reliability(self):
        x = metric("x", 8, samples=3000, seed=1)
        row = agreement([x], [x], some_labels(3000), draws=0).iloc[0]
        assert row["spearman"] < 0.95
        assert row["disattenuated"] == pytest.approx(1, abs=0.02)

    def test_refusals(self):
        x = metric("x", 2, seed=1)
        with pytest.raises(ValueError, match="x: expected 90 samples, one per label; got 120"):
            agreement([x], None, some_labels(90))
        with pytest.raises(ValueError, match="draws of at least 0"):
            agreement([x], None, some_labels(), draws=-1)
        with pytest.raises(ValueError, match="splits of at least 1"):
            agreement([x], None, some_labels(), splits=0)

    def test_many_samples_take_tau_from_one_way_of_the_first_split(self, monkeypatch):
        monkeypatch.setattr(agreement_details, "MOST_SAMPLES_FOR_EVERY_TAU", 100)
        x, y = metric("x", 2, seed=1), metric("y", 2, seed=2)
        row = agreement([x], [y], some_labels(), draws=0).iloc[0]
        expected = kendalltau(x.scores[0], y.scores[1]).statistic
        assert row["kendall_tau_b"] == pytest.approx(expected, abs=1e-12)

    def test_details_are_of_the_chosen_rows_alone(self):
        sets = [metric(name, 4, seed=seed) for seed, name in enumerate("xyz")]
        sets.append(deterministic("w", np.arange(120)))
        pairs, labels = list(combinations(range(4), 2)), some_labels()
        points = agreement_of_pairs(sets, pairs, labels)
        assert points[DETAILS].isna().all(axis=None)
        assert points[POINTS].notna().all(axis=None)
        found = with_details(points, [1, 4], sets, pairs, labels, draws=40)
        whole = agreement(sets, None, labels, draws=40)
        assert found.drop(columns=DETAILS).equals(whole.drop(columns=DETAILS))
        assert found[DETAILS].notna().all(axis=1).tolist() == [n in (1, 4) for n in range(6)]
        chosen = found.loc[[1, 4], DETAILS].to_numpy(dtype=float)
        assert chosen == pytest.approx(whole.loc[[1, 4], DETAILS].to_numpy(dtype=float), rel=1e-12)

    def test_tau_beyond_sixteen_bits(self):
        x, y, labels = random_pair(70_000, decimals=2)
        row = agreement([deterministic("x", x)], [deterministic("y", y)], labels, draws=0).iloc[0]
        assert row["kendall_tau_b"] == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)
        assert row["spearman"] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)

    def test_a_known_reliability_is_not_computed_again(self):
        labels, y = some_labels(), metric("y", 4, seed=2)
        known = Estimate(value=0.5), Estimate(value=0.25)
        x = dataclasses.replace(metric("x", 4, seed=1), reliability=known)
        row = agreement([x, y], None, labels, draws=0).iloc[0]
        for kind, own, other in (
            ("", known[0], spearman_pair_mean(y.scores)),
            ("_within_class", known[1], spearman_within_class_pair_mean(y.scores, labels)),
        ):
            noise = math.sqrt(spearman_brown(own.value, 2) * spearman_brown(other.value, 2))
            assert row[f"disattenuated{kind}"] == pytest.approx(row[f"spearman{kind}"] / noise)


class TestIntervals:
    def test_equal_a_loop_over_resamples(self):
        x, y, labels = random_pair(60, decimals=0)
        row = agreement(
            [deterministic("x", x)], [deterministic("y", y)], labels, draws=150, seed=3
        ).iloc[0]
        ranks = rankdata([x, y], axis=1)
        within = np.zeros((2, 60))
        for label in range(4):
            within[:, labels == label] = rankdata(np.array([x, y])[:, labels == label], axis=1)
        generator = np.random.default_rng((3, 1))
        pooled_draws, within_draws = [], []
        for ids in np.concatenate([generator.integers(60, size=(n, 60)) for n in (100, 50)]):
            pooled_draws.append(pearsonr(*ranks[:, ids]).statistic)
            total = weight = 0
            for label in range(4):
                chosen = within[:, ids[labels[ids] == label]]
                if np.ptp(chosen, axis=1).all():
                    total += chosen.shape[1] * pearsonr(*chosen).statistic
                    weight += chosen.shape[1]
            within_draws.append(total / weight)
        ends = np.percentile([pooled_draws, within_draws], [2.5, 97.5], axis=1)
        assert row[ENDS].to_numpy(dtype=float) == pytest.approx(ends.T.ravel(), abs=1e-12)

    def test_shared_runs_average_splits_inside_each_draw(self):
        x, y, labels = metric("x", 2, seed=1), metric("y", 2, seed=2), some_labels()
        row = agreement([x], [y], labels, draws=100).iloc[0]
        ranks_x, ranks_y = rankdata(x.scores, axis=1), rankdata(y.scores, axis=1)
        draws = [
            (
                pearsonr(ranks_x[0, ids], ranks_y[1, ids]).statistic
                + pearsonr(ranks_x[1, ids], ranks_y[0, ids]).statistic
            )
            / 2
            for ids in np.random.default_rng((0, 1)).integers(120, size=(100, 120))
        ]
        expected = np.percentile(draws, [2.5, 97.5])
        assert (row["spearman_low"], row["spearman_high"]) == pytest.approx(expected, abs=1e-12)

    def test_cover_the_population_value(self):
        truth = 6 / np.pi * math.asin(math.sqrt(0.5) / 2)
        covered = []
        for seed in range(150):
            x, y, _ = random_pair(200, seed=seed, decimals=9)
            sets = [deterministic("x", x)], [deterministic("y", y)]
            row = agreement(*sets, np.zeros(200, dtype=int), draws=200).iloc[0]
            covered.append(row["spearman_low"] <= truth <= row["spearman_high"])
        assert 0.88 <= np.mean(covered) <= 0.99

    def test_influence_agrees_with_resampling(self, monkeypatch):
        sets = [metric(name, 4, samples=1500, seed=i) for i, name in enumerate("xyz")]
        sets.append(deterministic("flat in a class", np.where(some_labels(1500) == 1, 0, 1)))
        sets[3].scores[0, :300] = np.arange(300)
        labels = some_labels(1500)
        resampled = agreement(sets, None, labels, draws=2000)
        monkeypatch.setattr(agreement_details, "MOST_SAMPLES_TO_RESAMPLE", 1000)
        influence = agreement(sets, None, labels, draws=1)
        for key in ("spearman", "spearman_within_class"):
            width = influence[f"{key}_high"] - influence[f"{key}_low"]
            expected = resampled[f"{key}_high"] - resampled[f"{key}_low"]
            assert (width / expected).to_numpy() == pytest.approx(np.ones(6), abs=0.08)
            middle = (influence[f"{key}_high"] + influence[f"{key}_low"]) / 2
            assert middle.to_numpy() == pytest.approx(influence[key].to_numpy())

    def test_influence_of_a_constant_is_missing(self, monkeypatch):
        monkeypatch.setattr(agreement_details, "MOST_SAMPLES_TO_RESAMPLE", 10)
        sets = deterministic("x", np.ones(50)), deterministic("y", np.arange(50))
        row = agreement(sets, None, np.zeros(50, dtype=int), draws=1).iloc[0]
        assert row[ENDS].isna().all()

    def test_follow_the_seed(self):
        x, y, labels = random_pair()
        sets = [deterministic("x", x), deterministic("y", y)]
        first, again, other = (
            agreement(sets, None, labels, draws=50, seed=seed).iloc[0] for seed in (0, 0, 1)
        )
        assert first.equals(again)
        assert first["spearman"] == other["spearman"]
        assert first["spearman_low"] != other["spearman_low"]

    def test_points_are_the_same_bits_without_intervals(self):
        sets, labels = (
            [metric(name, 5, seed=seed) for seed, name in enumerate("xyz")],
            some_labels(),
        )
        alone, beside = (agreement(sets, None, labels, draws=draws) for draws in (0, 1))
        assert alone[POINTS].equals(beside[POINTS])

    def test_no_draws_are_point_estimates(self):
        x, y, labels = random_pair()
        row = agreement([deterministic("x", x)], [deterministic("y", y)], labels, draws=0).iloc[0]
        assert row[ENDS].isna().all()
        assert row[[*POINTS, "kendall_tau_b"]].notna().all()


class TestSharedErrors:
    """Two metrics of one run share its accidents; disjoint halves do not."""

    def simulated(self, runs, *, samples=6000, truth=0.6):
        generator = np.random.default_rng(0)
        x = generator.normal(size=samples)
        y = truth * x + math.sqrt(1 - truth**2) * generator.normal(size=samples)
        accident = generator.normal(size=(runs, samples))
        own = generator.normal(size=(2, runs, samples))
        ids = tuple(map(str, range(runs)))
        return [
            ScoreSet(name=name, scores=signal + accident + 0.3 * noise, runs=ids)
            for name, signal, noise in zip("xy", (x, y), own, strict=True)
        ]

    def test_disjoint_halves_recover_the_true_correlation(self):
        x, y = self.simulated(8)
        labels = np.zeros(6000, dtype=np.int64)
        truth = 6 / np.pi * math.asin(0.6 / 2)
        row = agreement([x], [y], labels, draws=0).iloc[0]
        assert row["disattenuated"] == pytest.approx(truth, abs=0.03)
        assert row["spearman"] < truth - 0.05

    def test_scores_of_the_same_runs_would_not(self):
        x, y = self.simulated(8)
        truth = 6 / np.pi * math.asin(0.6 / 2)
        rho = spearman(x.scores[0], y.scores[0]).value
        r_x, r_y = (spearman_pair_mean(scores.scores).value for scores in (x, y))
        assert disattenuated(rho, r_x, r_y).value > 1.2
        rho = spearman(x.scores.mean(axis=0), y.scores.mean(axis=0)).value
        r_x, r_y = (float(spearman_brown(r, 8)) for r in (r_x, r_y))
        assert disattenuated(rho, r_x, r_y).value > truth + 0.04
