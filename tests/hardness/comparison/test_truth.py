import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mannwhitneyu, norm, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from hardness.comparison import truth as module
from hardness.comparison.correlation import partial_spearman, spearman_within_class
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.truth import (
    auroc,
    auroc_within_class,
    average_precision,
    paired_differences,
    precision_at_pi,
    truth_table,
)
from hardness.comparison.truth_statistics import BINARY, GRADED, comparison, is_binary
from hardness.comparison.winner import winner

CLASSES = 3


@st.composite
def tied_scores(draw):
    """Scores with many ties and infinities, a binary truth with both sides, and labels."""
    samples = draw(st.integers(2, 30))
    scores = draw(
        hnp.arrays(np.float64, samples, elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf]))
    )
    truth = draw(hnp.arrays(np.float64, samples, elements=st.sampled_from([0.0, 1.0])))
    truth[:2] = [0, 1]
    labels = draw(hnp.arrays(np.int64, samples, elements=st.integers(0, CLASSES - 1)))
    return scores, truth, labels


def planted(samples=400, *, effect=1.0, rate=0.2, seed=0, decimals=1):
    """Scores that are higher by ``effect`` for positives, rounded so that some tie."""
    generator = np.random.default_rng(seed)
    truth = (np.arange(samples) < rate * samples).astype(float)
    labels = generator.integers(0, CLASSES, size=samples)
    scores = np.round(generator.normal(size=samples) + effect * truth, decimals)
    return scores, truth, labels


def graded(samples=400, *, seed=0, decimals=1):
    scores, _, labels = planted(samples, seed=seed, decimals=decimals)
    noise = np.random.default_rng((seed, 1)).normal(size=samples)
    return scores, np.round(scores + noise), labels


def finite(scores):
    return np.nan_to_num(scores, posinf=1e6)


def slow_auroc_within_class(scores, truth, labels):
    total = weight = 0
    for label in np.unique(labels):
        mine = labels == label
        if 0 < truth[mine].mean() < 1:
            total += mine.sum() * roc_auc_score(truth[mine], finite(scores)[mine])
            weight += mine.sum()
    return total / weight if weight else math.nan


def slow_precision(scores, truth):
    """Share of each sample in a top as large as the positives, group of ties by group."""
    size = truth.sum()
    shares = np.zeros(len(scores))
    for value in sorted(set(scores), reverse=True):
        tied = scores == value
        shares[tied] = max(0, min(1, (size - shares.sum()) / tied.sum()))
    return shares @ truth / size


class TestAuroc:
    def test_by_hand(self):
        # Of four pairs the positives win three and tie in one.
        assert auroc(np.array([1.0, 2, 2, 3]), np.array([0.0, 0, 1, 1])).value == 3.5 / 4

    @given(tied_scores())
    def test_equals_scikit_learn_and_scipy(self, data):
        scores, truth, _ = data
        found = auroc(scores, truth).value
        assert found == pytest.approx(roc_auc_score(truth, finite(scores)))
        wins = mannwhitneyu(finite(scores[truth == 1]), finite(scores[truth == 0])).statistic
        assert found == pytest.approx(wins / (truth.sum() * (1 - truth).sum()))

    def test_planted_samples_score_harder(self):
        scores, truth, _ = planted(20_000, effect=1.5, decimals=9)
        assert auroc(scores, truth).value == pytest.approx(norm.cdf(1.5 / math.sqrt(2)), abs=0.01)

    def test_a_wrong_sign_shows(self):
        scores, truth, _ = planted()
        assert auroc(-scores, truth).value == pytest.approx(1 - auroc(scores, truth).value)
        assert auroc(-scores, truth).value < 0.5

    def test_equal_scores_know_nothing(self):
        assert auroc(np.ones(10), np.arange(10) % 2.0).value == 0.5


class TestWithinClass:
    def test_by_hand(self):
        scores, truth = np.array([1.0, 2, 5, 5, 9]), np.array([0.0, 1, 0, 1, 1])
        # 1 in the class of two and 0.75 in that of three.
        found = auroc_within_class(scores, truth, np.array([0, 0, 1, 1, 1]))
        assert found.value == pytest.approx((2 * 1 + 3 * 0.75) / 5)

    @given(tied_scores())
    def test_equals_a_loop_over_classes(self, data):
        expected = slow_auroc_within_class(*data)
        found = auroc_within_class(*data)
        assert found.value == pytest.approx(expected, nan_ok=True)
        if math.isnan(expected):
            assert found.reason == "no class has positives and negatives"

    def test_class_effects_alone_count_pooled_only(self):
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 2, size=5000)
        truth = (generator.random(5000) < np.where(labels == 1, 0.4, 0.1)).astype(float)
        scores = labels + 1e-3 * generator.normal(size=5000)
        assert auroc(scores, truth).value > 0.65
        assert auroc_within_class(scores, truth, labels).value == pytest.approx(0.5, abs=0.03)


class TestAveragePrecision:
    def test_by_hand(self):
        found = average_precision(np.array([4.0, 3, 2, 1, 0]), np.array([1.0, 0, 1, 0, 0]))
        assert found.precision.value == pytest.approx((1 + 2 / 3) / 2)
        assert found.base_rate == 2 / 5
        assert found.lift == pytest.approx((1 + 2 / 3) / 2 / (2 / 5))

    @given(tied_scores())
    def test_equals_scikit_learn(self, data):
        scores, truth, _ = data
        expected = average_precision_score(truth, finite(scores))
        assert average_precision(scores, truth).precision.value == pytest.approx(expected)

    def test_equal_scores_reach_the_base_rate(self):
        found = average_precision(np.ones(10), np.array([1.0] * 3 + [0] * 7))
        assert (found.precision.value, found.base_rate, found.lift) == pytest.approx((0.3, 0.3, 1))

    def test_the_clean_majority_as_positives_would_look_good_by_chance(self):
        """Why values with positives turned round cannot be compared."""
        scores, truth, _ = planted(rate=0.1, effect=2)
        ours, turned = average_precision(scores, truth), average_precision(scores, 1 - truth)
        assert ours.lift > 4
        assert turned.precision.value < turned.base_rate


class TestPrecision:
    def test_by_hand(self):
        # The border of the top two cuts a tie of two, one of them positive.
        scores, truth = np.array([3.0, 2, 2, 1]), np.array([1.0, 1, 0, 0])
        assert precision_at_pi(scores, truth).value == (1 + 0.5) / 2

    @given(tied_scores())
    def test_equals_fractional_shares(self, data):
        scores, truth, _ = data
        assert precision_at_pi(scores, truth).value == pytest.approx(slow_precision(scores, truth))

    def test_equal_scores_reach_the_base_rate(self):
        truth = np.array([1.0] * 3 + [0] * 7)
        assert precision_at_pi(np.ones(10), truth).value == pytest.approx(0.3)


BY_NAME = {
    "auroc": lambda s, t, _: auroc(s, t),
    "auroc_within_class": auroc_within_class,
    "average_precision": lambda s, t, _: average_precision(s, t).precision,
    "precision_at_pi": lambda s, t, _: precision_at_pi(s, t),
}


@pytest.mark.parametrize("statistic", BINARY)
class TestBinary:
    @given(tied_scores(), st.randoms(use_true_random=False))
    def test_order_of_samples_and_monotone_transforms_change_nothing(self, statistic, data, random):
        scores, truth, labels = data
        order = random.sample(range(len(truth)), len(truth))
        before = BY_NAME[statistic](scores, truth, labels).value
        moved = (3 * np.arctan(scores) - 1)[order]
        after = BY_NAME[statistic](moved, truth[order], labels[order]).value
        assert after == pytest.approx(before, nan_ok=True)
        assert math.isnan(before) or -1e-12 <= before <= 1 + 1e-12

    def test_nan_on_either_side_leaves_and_is_counted(self, statistic):
        scores, truth, labels = planted()
        expected = BY_NAME[statistic](scores[3:], truth[3:], labels[3:]).value
        scores[0], truth[1:3] = np.nan, np.nan
        found = BY_NAME[statistic](scores, truth, labels)
        assert found.value == pytest.approx(expected)
        assert found.reason == "3 ids left out for NaN"

    @pytest.mark.parametrize(
        ("truth", "reason"),
        [
            ([0.0, 0, 0], "no positives"),
            ([1.0, 1, 1], "no negatives"),
            ([np.nan] * 3, "no positives and no negatives; 3 ids left out for NaN"),
        ],
    )
    def test_one_side_alone_is_nan_with_the_reason(self, statistic, truth, reason):
        labels = np.zeros(3, dtype=np.int64)
        found = BY_NAME[statistic](np.arange(3.0), np.array(truth), labels)
        assert math.isnan(found.value)
        assert found.reason == reason

    def test_a_graded_truth_is_refused(self, statistic):
        labels = np.zeros(3, dtype=np.int64)
        with pytest.raises(ValueError, match="compared by Spearman"):
            BY_NAME[statistic](np.arange(3.0), np.arange(3.0), labels)

    def test_weights_are_repetitions(self, statistic):
        scores, truth, labels = planted(60)
        weights = np.random.default_rng(1).integers(0, 4, size=(5, 60))
        found = comparison(scores, truth, labels, None).under(weights.astype(float))[statistic]
        again = [
            BY_NAME[statistic](*(np.repeat(one, w) for one in (scores, truth, labels))).value
            for w in weights
        ]
        assert found == pytest.approx(again)


class TestGraded:
    def test_equals_scipy_and_the_functions_of_two_scores(self):
        scores, truth, labels = graded()
        found = comparison(scores, truth, labels, None).values()
        assert found["spearman"] == pytest.approx(spearmanr(scores, truth).statistic)
        within = spearman_within_class(scores, truth, labels).value
        assert found["spearman_within_class"] == pytest.approx(within)
        means = np.array([truth[labels == label].mean() for label in labels])
        partial = partial_spearman(scores, truth, means).value
        assert found["partial_spearman"] == pytest.approx(partial)

    def test_a_control_of_ones_own(self):
        scores, truth, labels = graded()
        control = np.random.default_rng(3).normal(size=len(scores)) + truth
        control[0] = np.nan
        one = comparison(scores, truth, labels, ("size", control))
        expected = partial_spearman(scores, truth, control).value
        assert one.values()["partial_spearman"] == pytest.approx(expected)
        assert len(one.ids) == len(scores) - 1

    def test_weights_repeat_fixed_ranks(self):
        scores, truth, labels = graded(60)
        one = comparison(scores, truth, labels, None)
        weights = np.random.default_rng(1).integers(0, 4, size=(5, 60))
        found = one.under(weights.astype(float))["spearman"]
        again = [np.corrcoef(*np.repeat(one.pooled[:2], w, axis=1))[0, 1] for w in weights]
        assert found == pytest.approx(again)

    @pytest.mark.parametrize(
        ("scores", "truth", "reason"),
        [
            ([1.0, 1, 1], [0.0, 1, 2], "all samples tie in score"),
            ([1.0, 2, 3], [2.0, 2, 2], "all samples tie in truth"),
            ([1.0, np.nan, np.nan], [0.0, 1, 2], "needs 2 samples with a score and a truth, got 1"),
        ],
    )
    def test_nothing_to_compare_is_nan_with_the_reason(self, scores, truth, reason):
        labels = np.zeros(3, dtype=np.int64)
        table = truth_table({"m": np.array([scores])}, {"t": np.array(truth)}, labels, draws=10)
        assert table[[*GRADED]].isna().all(axis=None)
        assert table["reason"].iloc[0].startswith(reason)


class TestInfluence:
    @pytest.mark.parametrize("make", [planted, graded])
    def test_is_the_derivative_by_the_weights(self, make):
        scores, truth, labels = make(80)
        one = comparison(scores, truth, labels, None)
        influences, ones = one.influences(), np.ones((1, 80))
        for place in (0, 5, 30, 79):
            step = np.zeros((1, 80))
            step[0, place] = 1e-5
            up, down = one.under(ones + step), one.under(ones - step)
            for statistic in {*influences} - {"precision_at_pi"}:  # a step function
                slope = float((up[statistic] - down[statistic])[0] / 2e-5)
                assert influences[statistic][place] == pytest.approx(slope, abs=1e-7)

    @pytest.mark.parametrize("make", [planted, graded])
    @pytest.mark.parametrize("decimals", [1, 9])
    def test_errors_agree_with_resampling(self, make, decimals, monkeypatch):
        scores, truth, labels = make(3000, decimals=decimals)
        args = ({"m": scores[None]}, {"t": truth}, labels)
        resampled = truth_table(*args).iloc[0]
        monkeypatch.setattr(module, "MOST_SAMPLES_TO_RESAMPLE", 2999)
        derived = truth_table(*args).iloc[0]
        for statistic in BINARY if make is planted else GRADED:
            assert derived[statistic] == resampled[statistic]
            ratio = derived[f"{statistic}_error"] / resampled[f"{statistic}_error"]
            assert ratio == pytest.approx(1, abs=0.15)
            low, high = f"{statistic}_low", f"{statistic}_high"
            assert derived[high] - derived[low] == pytest.approx(
                2 * norm.ppf(0.975) * derived[f"{statistic}_error"]
            )

    def test_of_auroc_is_delongs(self, monkeypatch):
        scores, truth, labels = planted(500)
        monkeypatch.setattr(module, "MOST_SAMPLES_TO_RESAMPLE", 499)
        found = truth_table({"m": scores[None]}, {"t": truth}, labels)["auroc_error"].iloc[0]
        x, y = scores[truth == 1], scores[truth == 0]
        wins = (x[:, None] > y) + (x[:, None] == y) / 2
        delong = wins.mean(axis=1).var() / len(x) + wins.mean(axis=0).var() / len(y)
        assert found == pytest.approx(math.sqrt(delong))


class TestTable:
    def test_is_of_the_mean_over_runs_beside_the_spread_over_each(self):
        scores, truth, labels = planted()
        runs = scores + np.random.default_rng(5).normal(size=(4, len(scores)))
        row = truth_table({"m": runs}, {"t": truth}, labels, draws=0).iloc[0]
        assert row["auroc"] == auroc(mean_over_runs(runs), truth).value
        each = [auroc(run, truth).value for run in runs]
        assert row["auroc_spread"] == pytest.approx(np.std(each))
        assert row["auroc"] > np.mean(each)
        assert (row["runs"], row["samples"], row["dropped"]) == (4, 400, 0)
        assert (row["base_rate"], row["kind"]) == (pytest.approx(0.2), "binary")
        assert row["lift"] == pytest.approx(row["average_precision"] / 0.2)

    def test_every_metric_against_every_truth_by_its_kind(self):
        scores, truth, labels = planted()
        _, votes, _ = graded()
        table = truth_table(
            {"a": scores[None], "b": -scores[None]}, {"noise": truth, "votes": votes}, labels,
            draws=20,
        )  # fmt: skip
        assert table["score"].tolist() == ["a", "b", "a", "b"]
        assert table["kind"].tolist() == ["binary"] * 2 + ["graded"] * 2
        assert table.loc[:1, [*GRADED]].isna().all(axis=None)
        assert table.loc[2:, [*BINARY, "base_rate", "lift"]].isna().all(axis=None)
        assert table.loc[:1, "auroc_least"].notna().all()
        assert table.loc[2:, "spearman_most"].notna().all()
        assert table["control"].tolist() == ["", "", "class mean", "class mean"]

    def test_a_row_does_not_depend_on_the_others_save_for_simultaneous_ends(self):
        scores, truth, labels = planted()
        one = {"a": scores[None]}
        many = {"b": np.random.default_rng(0).normal(size=(3, 400)), **one}
        alone = truth_table(one, {"noise": truth}, labels, draws=50).iloc[0]
        beside = truth_table(many, {"other": 1 - truth, "noise": truth}, labels, draws=50).iloc[3]
        for column in ("auroc", "auroc_low", "auroc_high", "average_precision_low"):
            assert alone[column] == beside[column]
        assert alone["auroc_least"] > beside["auroc_least"]

    def test_follows_the_seed(self):
        scores, truth, labels = planted()
        first, same, other = (
            truth_table({"a": scores[None]}, {"t": truth}, labels, draws=50, seed=seed).iloc[0]
            for seed in (0, 0, 1)
        )
        assert first["auroc_low"] == same["auroc_low"] != other["auroc_low"]

    def test_a_metric_without_scores_is_missing_and_leaves_the_others(self):
        scores, truth, labels = planted()
        holes = {"a": scores[None], "b": np.full((2, 400), np.nan)}
        table = truth_table(holes, {"t": truth}, labels, draws=50)
        assert table["reason"].tolist()[1].startswith("no positives and no negatives; 400 ids")
        assert table["auroc_least"].notna().tolist() == [True, False]

    def test_other_lengths_are_refused(self):
        with pytest.raises(
            ValueError, match=r"expected t \[samples\] of 3 samples; got shape \(2,\)"
        ):
            truth_table({"a": np.ones((1, 3))}, {"t": np.ones(2)}, np.zeros(3, dtype=np.int64))

    def test_interval_covers_the_population_value(self):
        truth_value = norm.cdf(1 / math.sqrt(2))
        found = [auroc(*planted(200, seed=seed, decimals=9)[:2], draws=200) for seed in range(150)]
        covered = np.mean([one.low <= truth_value <= one.high for one in found])
        assert 0.9 <= covered <= 0.99

    @pytest.mark.parametrize("most", [20_000, 100])
    def test_simultaneous_intervals_hold_for_all_metrics_together(self, most, monkeypatch):
        """Of 20 scores that know nothing nearly always some interval of its own misses 0.5."""
        monkeypatch.setattr(module, "MOST_SAMPLES_TO_RESAMPLE", most)
        generator = np.random.default_rng(0)
        truth, labels = np.arange(200) % 4 // 3.0, np.zeros(200, dtype=np.int64)
        single, together = [], []
        for _ in range(40):
            scores = {str(k): generator.normal(size=(1, 200)) for k in range(20)}
            table = truth_table(scores, {"t": truth}, labels, draws=200)
            single.append(((table["auroc_low"] <= 0.5) & (table["auroc_high"] >= 0.5)).all())
            together.append(((table["auroc_least"] <= 0.5) & (table["auroc_most"] >= 0.5)).all())
        assert np.mean(single) < 0.6
        assert np.mean(together) >= 0.87


class TestDifferences:
    def test_are_of_the_ids_that_both_have(self):
        scores, truth, labels = planted()
        other = scores + np.random.default_rng(2).normal(size=400)
        other[:5] = np.nan
        row = paired_differences({"a": scores[None], "b": other[None]}, truth, labels).iloc[0]
        expected = auroc(scores[5:], truth[5:]).value - auroc(other[5:], truth[5:]).value
        assert row["auroc"] == pytest.approx(expected)
        assert row["samples"] == 395
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]

    @pytest.mark.parametrize("most", [20_000, 100])
    @pytest.mark.parametrize("make", [planted, graded])
    def test_of_two_alike_are_surer_than_each(self, make, most, monkeypatch):
        monkeypatch.setattr(module, "MOST_SAMPLES_TO_RESAMPLE", most)
        scores, truth, labels = make(decimals=9)
        other = scores + 0.1 * np.random.default_rng(2).normal(size=400)
        both = {"a": scores[None], "b": other[None]}
        statistic = "auroc" if make is planted else "spearman"
        row = paired_differences(both, truth, labels).iloc[0]
        own = truth_table(both, {"t": truth}, labels).iloc[0]
        widths = [one[f"{statistic}_high"] - one[f"{statistic}_low"] for one in (row, own)]
        assert 0 < widths[0] < widths[1] / 2

    def test_of_one_metric_with_itself_are_nothing(self):
        scores, truth, labels = planted()
        row = paired_differences({"a": scores[None], "b": scores[None]}, truth, labels).iloc[0]
        assert row["auroc_low"] == row["auroc"] == row["auroc_high"] == 0

    def test_without_positives_are_missing(self):
        scores, truth, labels = planted()
        found = paired_differences({"a": scores[None], "b": scores[None]}, 0 * truth, labels)
        assert found[["auroc", "auroc_low"]].isna().all(axis=None)


class TestWinner:
    def test_of_chance_alone_is_quoted_near_chance(self):
        generator = np.random.default_rng(0)
        truth = np.arange(120) % 4 // 3.0
        best, quoted = [], []
        for seed in range(15):
            scores = {str(k): generator.normal(size=120) for k in range(30)}
            best.append(max(auroc(one, truth).value for one in scores.values()))
            quoted.append(winner(scores, truth, seed=seed).value)
        assert np.mean(best) > 0.6
        assert np.mean(quoted) == pytest.approx(0.5, abs=0.05)

    def test_is_the_better_metric(self):
        scores, truth, _ = planted(effect=2)
        found = winner({"chance": scores[::-1], "good": scores}, truth)
        assert (found.name, found.chosen) == ("good", ("good", "good"))
        assert found.value == pytest.approx(auroc(scores, truth).value, abs=0.05)

    def test_there_is_none_without_positives_on_both_halves(self):
        assert winner({"a": np.arange(4.0)}, np.array([1.0, 0, 0, 0])) is None


def test_a_truth_of_0_and_1_is_binary():
    assert is_binary(np.array([0.0, 1, np.nan]))
    assert not is_binary(np.array([0.0, 0.5]))
