"""Every comparison of scores takes numbers of any kind, and refuses other axes by name."""

import numpy as np
import pytest

from hardness.comparison import (
    agreement_table,
    correlation,
    enough_seeds,
    intraclass,
    mean_scores,
    pairwise,
    stability,
    supervised_reference,
    truth,
    truth_statistics,
    variance,
    winner,
)
from hardness.comparison.disjoint_runs import ScoreSet
from hardness.comparison.rank_biased_overlap import rbo
from hardness.data import parts

SAMPLES = 8
LABELS = np.arange(SAMPLES) % 2
PLANTED = np.array([0.0, 0, 0, 1, 0, 1, 1, 0])
GRADED = np.arange(SAMPLES) % 5.0
OTHER = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
IDS = np.arange(SAMPLES)


def score_set(name, runs):
    return ScoreSet(name=name, scores=runs, runs=tuple(map(str, range(len(runs)))))


OF_RUNS = {
    "stability": lambda runs: stability.stability(runs, LABELS),
    "stability_and_mean_rank": lambda runs: stability.stability_and_mean_rank(runs, LABELS),
    "mean_normalised_rank": stability.mean_normalised_rank,
    "mean_over_runs": mean_scores.mean_over_runs,
    "spearman_pair_mean": stability.spearman_pair_mean,
    "within": lambda runs: stability.spearman_within_class_pair_mean(runs, LABELS),
    "reliability_of_one": lambda runs: stability.reliability_of_one(runs, LABELS),
    "kendall_w": stability.kendall_w,
    "topk_jaccard": lambda runs: stability.topk_jaccard(runs, 20),
    "topk_overlap_pair_mean": lambda runs: stability.topk_overlap_pair_mean(runs, 20),
    "icc_c1": intraclass.icc_c1,
    "icc_ck": intraclass.icc_ck,
    "disjoint_halves_m": lambda runs: stability.disjoint_halves_m(runs, 1),
    "variance_components": lambda runs: variance.variance_components([runs, runs]),
    "look_at": lambda runs: enough_seeds.look_at(runs, 1, (4, 6), 0.9),
    "supervised_reference": lambda runs: supervised_reference.supervised_reference(
        {"forgetting_events": runs, "fslt": runs}, without="aum"
    ),
    "agreement": lambda runs: agreement_table.agreement(
        [score_set("loss", runs)], [ScoreSet(name="other", scores=OTHER[None])], LABELS, draws=9
    ),
    "truth_table": lambda runs: truth.truth_table(
        {"loss": runs}, {"planted": PLANTED, "graded": GRADED}, LABELS, draws=9
    ),
    "paired_differences": lambda runs: truth.paired_differences(
        {"loss": runs, "other": OTHER[None]}, PLANTED, LABELS, draws=9
    ),
}
OF_SAMPLES = {
    "spearman": lambda x: correlation.spearman(x, OTHER),
    "spearman, right": lambda x: correlation.spearman(OTHER, x),
    "kendall_tau_b": lambda x: correlation.kendall_tau_b(x, OTHER),
    "topk_overlap": lambda x: correlation.topk_overlap(x, OTHER, 25, draws=9),
    "spearman_within_class": lambda x: correlation.spearman_within_class(x, OTHER, LABELS),
    "partial_spearman": lambda x: correlation.partial_spearman(x, OTHER, GRADED),
    "partial_spearman, control": lambda x: correlation.partial_spearman(GRADED, OTHER, x),
    "rbo": lambda x: rbo(x, OTHER, draws=9),
    "auroc": lambda x: truth.auroc(x, PLANTED, draws=9),
    "auroc_within_class": lambda x: truth.auroc_within_class(x, PLANTED, LABELS, draws=9),
    "average_precision": lambda x: truth.average_precision(x, PLANTED),
    "precision_at_pi": lambda x: truth.precision_at_pi(x, PLANTED),
    "winner": lambda x: winner.winner({"loss": x, "other": OTHER}, PLANTED),
    "comparison": lambda x: truth_statistics.comparison(x, GRADED, LABELS, None).values(),
    "pairwise_agreement": lambda x: pairwise.pairwise_agreement(
        [ScoreSet(name="x", scores=OTHER[None]), ScoreSet(name="y", scores=GRADED[None])],
        [(0, 1)], IDS, control=x, draws=9,
    ),
    "ranked_part": lambda x: parts.ranked_part(x, 0.5, "hardest"),
}  # fmt: skip
TRUTHS = {
    "auroc": lambda truths: truth.auroc(OTHER, truths),
    "is_binary": truth_statistics.is_binary,
    "winner": lambda truths: winner.winner({"loss": OTHER, "other": GRADED}, truths),
    "truth_table": lambda truths: truth.truth_table(
        {"loss": OTHER[None]}, {"planted": truths}, LABELS, draws=9
    ),
    "paired_differences": lambda truths: truth.paired_differences(
        {"loss": OTHER[None], "other": GRADED[None]}, truths, LABELS, draws=9
    ),
}


LABELLED = {
    "stability": lambda labels: stability.stability(OTHER[None], labels),
    "reliability_of_one": lambda labels: stability.reliability_of_one(OTHER[None], labels),
    "spearman_within_class": lambda labels: correlation.spearman_within_class(
        OTHER, GRADED, labels
    ),
    "auroc_within_class": lambda labels: truth.auroc_within_class(OTHER, PLANTED, labels),
    "paired_differences": lambda labels: truth.paired_differences(
        {"loss": OTHER[None]}, PLANTED, labels
    ),
}


def cases(functions):
    return pytest.mark.parametrize("call", functions.values(), ids=functions.keys())


def numbers(shape, kind):
    values = np.random.default_rng(0).integers(2 if kind is np.bool_ else 200, size=shape)
    return values.astype(kind)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.bool_, np.int32, np.float32])
class TestKinds:
    @cases(OF_RUNS)
    def test_of_runs_count_as_float64(self, call, kind):
        runs = numbers((4, SAMPLES), kind)
        assert repr(call(runs)) == repr(call(runs.astype(np.float64)))

    @cases(OF_SAMPLES)
    def test_of_samples_count_as_float64(self, call, kind):
        scores = numbers(SAMPLES, kind)
        assert repr(call(scores)) == repr(call(scores.astype(np.float64)))

    @cases(TRUTHS)
    def test_of_truths_count_as_float64(self, call, kind):
        assert repr(call(PLANTED.astype(kind))) == repr(call(PLANTED))


def test_unsigned_scores_do_not_wrap():
    scores, planted = np.array([0, 1, 2, 200], np.uint8), np.array([0, 0, 1, 1], np.uint8)
    assert truth.auroc(scores, planted).value == 1
    assert parts.ranked_part(scores, 0.25, "hardest").tolist() == [3]
    assert rbo(scores, np.arange(4.0)).extrapolated == pytest.approx(1)


class TestAxes:
    @cases(OF_RUNS)
    @pytest.mark.parametrize("shape", [(SAMPLES,), (2, 3, SAMPLES)])
    def test_others_than_runs_and_samples_are_refused(self, call, shape):
        with pytest.raises(
            ValueError, match=r"^expected \w+ \[runs, samples\]; got shape \("
        ) as it:
            call(np.ones(shape))
        assert str(it.value).endswith(f"got shape {shape}")

    @cases(OF_SAMPLES)
    @pytest.mark.parametrize("shape", [(), (3, SAMPLES)])
    def test_others_than_samples_are_refused(self, call, shape):
        with pytest.raises(ValueError, match=r"^expected \w+ \[samples\]; got shape \(") as it:
            call(np.ones(shape))
        assert str(it.value).endswith(f"got shape {shape}")

    @cases(TRUTHS)
    def test_a_truth_of_other_axes_is_refused(self, call):
        with pytest.raises(ValueError, match=r"^expected \w+ \[samples\]; got shape \(2, 4\)$"):
            call(np.ones((2, 4)))


class TestLengths:
    @cases({key: call for key, call in OF_SAMPLES.items() if key not in ("ranked_part", "winner")})
    def test_of_two_scores_must_match(self, call):
        with pytest.raises(ValueError, match=r"^expected \w+ \[samples\] of \d samples; got shape"):
            call(np.arange(SAMPLES - 1.0))

    @cases(LABELLED)
    def test_of_labels_must_match(self, call):
        with pytest.raises(
            ValueError, match=r"^expected labels \[samples\] of 8 samples; got shape \(7,\)$"
        ):
            call(LABELS[1:])

    def test_of_a_table_s_truths_scores_and_control_must_match(self):
        scores, truths = {"loss": OTHER[None]}, {"graded": GRADED}
        with pytest.raises(ValueError, match=r"^expected loss \[runs, samples\] of 8 samples; got"):
            truth.truth_table({"loss": OTHER[None, 1:]}, truths, LABELS)
        with pytest.raises(ValueError, match=r"^expected graded \[samples\] of 8 samples; got"):
            truth.truth_table(scores, {"graded": GRADED[1:]}, LABELS)
        with pytest.raises(ValueError, match=r"^expected entropy \[samples\] of 8 samples; got"):
            truth.truth_table(scores, truths, LABELS, control=("entropy", OTHER[1:]))


@pytest.mark.parametrize("percent", [0.1, 0.99, 0, -5, 101, np.nan])
@pytest.mark.parametrize(
    "call",
    [
        lambda percent: correlation.topk_overlap(OTHER, GRADED, percent),
        lambda percent: stability.topk_jaccard(np.stack([OTHER, GRADED]), percent),
        lambda percent: stability.topk_overlap_pair_mean(np.stack([OTHER, GRADED]), percent),
    ],
    ids=["topk_overlap", "topk_jaccard", "topk_overlap_pair_mean"],
)
def test_a_top_is_given_in_percent_and_not_as_a_share(call, percent):
    with pytest.raises(ValueError, match=r"^percent: expected from 1 to 100, 10 for a tenth; got"):
        call(percent)
