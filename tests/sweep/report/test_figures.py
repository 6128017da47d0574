"""Figures: which numbers and which samples they show, and what is missing."""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import rcParams
from matplotlib.figure import Figure

from hardness.comparison.stability import spearman_pair_mean
from hardness.data.datasets import Dataset
from hardness.data.source import Samples
from hardness.metrics.registry import METRICS
from sweep.aggregation import agreement_table, stability_table
from sweep.aggregation.aggregate import Aggregate
from sweep.aggregation.agreement_table import MEMBERS, REFERENCE
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.experiment.runs import Configuration
from sweep.report import agreement_figures, figures, image_figures, stability_figures
from sweep.report.terminal import print_agreement

SAMPLES = 60
MAP = ("cartography_confidence", "cartography_variability", "cartography_correctness")
SUPERVISED = (*dict.fromkeys((*MEMBERS, *MAP)), "aum.train", "max_softmax")
CONTRASTIVE = ("prototypicality", "msd_mean")


def scores(regimen, keys, *, seeds=4, missing=None, salt=0):
    """Noisy views of one order of samples, ids far from positions and not in their order."""
    generator = np.random.default_rng((seeds, salt))
    shared = generator.normal(size=SAMPLES)
    raw = {key: shared + generator.normal(size=(seeds, SAMPLES)) for key in keys}
    for key in {*raw} & {*MAP}:
        raw[key] = (raw[key] - raw[key].min()) / np.ptp(raw[key])  # as a probability is
    return ConfigurationScores(
        configuration=Configuration(
            regimen=regimen, numerics_version=1, dataset={"name": "toy"}, model={}, options={}
        ),
        parameters={"train.lr": 0.1},
        seeds=tuple(range(seeds)),
        runs=tuple(f"{regimen} {seed}" for seed in range(seeds)),
        sample_ids=1000 - 7 * np.arange(SAMPLES),
        labels=np.arange(SAMPLES) % 3,
        raw=raw,
        flags={},
        missing=missing or {},
        objective=0.9,
    )


def aggregated(*configurations, pixels=None):
    """The tables of an aggregation."""
    pixels = pixels or {}
    goal = SimpleNamespace(metric=SimpleNamespace(goal="maximize"))
    regimens = {one.configuration.regimen: goal for one in configurations}
    sweep: Any = SimpleNamespace(spec=SimpleNamespace(regimens=regimens))
    return Aggregate(
        scores=configurations,
        pixels=pixels,
        stability=stability_table.stability_table(configurations),
        agreement=agreement_table.agreement_table(sweep, configurations, pixels, intervals=False),
        samples=stability_table.samples_table(configurations, pixels),
        variance=stability_table.variance_table(configurations),
    )


def identity(one):
    return one.configuration.configuration_id


def drawn(result, folder, dataset=None):
    """Names of the files that ``draw`` says it wrote, which are all that there are."""
    paths = figures.draw(result, [identity(one) for one in result.scores], folder, dataset)
    assert {*paths} == {*folder.iterdir()}
    return [path.name for path in paths]


def toy_images(channels=1, side=8, ids=None):
    """Images in another order than the scores: ids ascend, as in every dataset."""
    ids = torch.from_numpy(np.sort(1000 - 7 * np.arange(SAMPLES) if ids is None else ids))
    shades = (ids % 256).to(torch.uint8)
    train = Samples(
        images=shades[:, None, None, None].expand(-1, channels, side, side).contiguous(),
        labels=ids * 0,
        sample_ids=ids,
    )
    return Dataset(
        name="toy", classes=("a", "b", "a very long name with $ signs $"), train=train,
        validation=train, columns=pd.DataFrame(index=range(len(ids))), digest="d",
    )  # fmt: skip


@pytest.fixture(scope="module")
def supervised():
    return scores("supervised", SUPERVISED, missing={7: "diverged: $loss$ is nan in epoch 3"})


@pytest.fixture(scope="module")
def result(supervised):
    contrastive = scores("contrastive", CONTRASTIVE, salt=1)
    entropy = np.random.default_rng(5).normal(size=SAMPLES)
    return aggregated(supervised, contrastive, pixels={"image_entropy": entropy})


class TestDraw:
    def test_every_figure_is_written_as_a_picture(self, result, tmp_path):
        written = drawn(result, tmp_path / "figures", toy_images(channels=3, side=32))
        assert written[:5] == [
            "stability.png", "forecast.png", "agreement.png", "data_map.png",
            "images_aum.supervised.png",
        ]  # fmt: skip
        assert "images_prototypicality.contrastive.png" in written
        for name in written:
            picture = matplotlib.image.imread(tmp_path / "figures" / name)
            assert min(picture.shape[:2]) > 300
            assert np.ptp(picture[..., :3]) > 0.5

    def test_shares_of_the_variance_are_drawn_where_a_regimen_has_several_configurations(
        self, supervised, tmp_path
    ):
        other = dataclasses.replace(supervised.configuration, options={"train": {"lr": 0.2}})
        twice = scores("supervised", SUPERVISED, salt=2)
        twice = dataclasses.replace(twice, configuration=other)
        result = aggregated(supervised, twice, scores("contrastive", CONTRASTIVE))
        assert "variance.png" in drawn(result, tmp_path)
        rows = stability_figures.variance_rows(result.variance)
        assert {*rows["regimen"]} == {"supervised"}
        assert {*rows["metric"]} == {*SUPERVISED} - {"aum.train"}
        assert rows["sample"].is_monotonic_decreasing
        shares = rows[["sample", "sample_by_configuration", "seed"]].sum(axis=1)
        np.testing.assert_allclose(shares, 1)
        drawn(aggregated(supervised), tmp_path)
        assert not (tmp_path / "variance.png").exists()

    def test_without_the_dataset_there_are_no_images(self, result, tmp_path):
        written = drawn(result, tmp_path)
        assert written == ["stability.png", "forecast.png", "agreement.png", "data_map.png"]

    def test_only_the_best_configurations_are_shown(self, result, tmp_path):
        contrastive = identity(result.scores[1])
        written = figures.draw(result, [contrastive, "not here"], tmp_path, toy_images())
        assert "data_map.png" not in {path.name for path in written}
        assert "images_aum.supervised.png" not in {path.name for path in written}

    def test_figures_of_an_earlier_aggregation_do_not_stay(self, result, tmp_path):
        drawn(result, tmp_path, toy_images())
        (tmp_path / "notes.png").write_bytes(b"someone's own")
        alone = aggregated(scores("contrastive", ("prototypicality",)))
        figures.draw(alone, [identity(alone.scores[0])], tmp_path, None)
        kept = {"stability.png", "forecast.png", "notes.png"}
        assert {path.name for path in tmp_path.iterdir()} == kept

    def test_a_caller_s_style_is_left_alone(self, result, tmp_path, monkeypatch):
        monkeypatch.setitem(rcParams, "font.size", 31.0)
        drawn(result, tmp_path)
        assert rcParams["font.size"] == 31.0

    def test_a_figure_replaces_its_file_whole(self, result, tmp_path, monkeypatch):
        (tmp_path / "stability.png").write_bytes(b"before")

        def fail(_figure, path, **_options):
            path.write_bytes(b"half of")
            raise OSError("disk full")

        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(OSError, match="disk full"):
            drawn(result, tmp_path)
        assert (tmp_path / "stability.png").read_bytes() == b"before"


class TestMissingPieces:
    def test_two_seeds_have_no_intervals_but_figures(self, tmp_path):
        two = aggregated(scores("supervised", SUPERVISED, seeds=2))
        assert two.stability["spearman_pair_mean_low"].isna().all()
        assert drawn(two, tmp_path) == ["stability.png", "agreement.png", "data_map.png"]

    def test_one_seed_shows_no_stability(self, tmp_path):
        one = aggregated(scores("supervised", SUPERVISED, seeds=1))
        assert drawn(one, tmp_path) == ["data_map.png"]

    def test_one_metric_agrees_with_none(self, tmp_path):
        one = aggregated(scores("contrastive", ("prototypicality",)))
        assert drawn(one, tmp_path, toy_images()) == [
            "stability.png", "forecast.png", "images_prototypicality.contrastive.png",
        ]  # fmt: skip

    def test_variants_alone_show_no_stability(self, tmp_path):
        assert drawn(aggregated(scores("supervised", ("max_softmax.mean",))), tmp_path) == []

    def test_the_training_step_stands_for_a_metric_that_has_nothing_else(self, tmp_path):
        keys = [f"{key}.train" for key in (*MAP, "aum")]
        result = aggregated(scores("supervised", keys))
        written = drawn(result, tmp_path)
        assert written == ["stability.png", "forecast.png", "agreement.png", "data_map.png"]
        (one,) = result.scores
        rows = stability_figures.stability_rows(result.stability, identity(one))
        assert sorted(rows.index) == sorted(keys)
        points = image_figures.map_points(result.samples, identity(one))
        means = result.scores[0].raw["cartography_confidence.train"].mean(axis=0)
        np.testing.assert_allclose(points["confidence"], means)

    def test_scores_without_a_number_draw_nothing(self, tmp_path):
        one = scores("supervised", SUPERVISED)
        nothing = {key: np.full_like(raw, np.nan) for key, raw in one.raw.items()}
        result = aggregated(dataclasses.replace(one, raw=nothing))
        assert drawn(result, tmp_path, toy_images()) == []

    def test_no_finished_run_draws_nothing(self, tmp_path):
        empty = pd.DataFrame()
        result = Aggregate(scores=[], pixels={}, stability=empty, agreement=empty, samples=empty)
        assert drawn(result, tmp_path, toy_images()) == []

    def test_a_metric_without_a_value_leaves_the_others(self, supervised, tmp_path):
        raw = {**supervised.raw, "max_softmax": np.full((4, SAMPLES), np.nan)}
        result = aggregated(dataclasses.replace(supervised, raw=raw))
        written = drawn(result, tmp_path)
        assert written == ["stability.png", "forecast.png", "agreement.png", "data_map.png"]

    def test_equal_scores_have_no_hardest_images(self, supervised, tmp_path):
        raw = {**supervised.raw, "aum": np.ones((4, SAMPLES))}
        result = aggregated(dataclasses.replace(supervised, raw=raw))
        assert "images_aum.supervised.png" not in drawn(result, tmp_path, toy_images())

    def test_images_of_other_samples_are_not_shown(self, result, tmp_path):
        names = drawn(result, tmp_path, toy_images(ids=np.arange(SAMPLES)))
        assert not [name for name in names if name.startswith("images_")]


class TestStabilityRows:
    def test_default_metrics_most_stable_first_and_undefined_last(self):
        table = pd.DataFrame({
            "configuration_id": ["c", "c", "c", "c", "d"],
            "metric": ["el2n", "aum", "aum.train", "fslt", "lid_mle"],
            "spearman_pair_mean": [0.4, 0.9, 0.7, np.nan, 1.0],
        })  # fmt: skip
        rows = stability_figures.stability_rows(table, "c")
        assert [*rows.index] == ["aum", "el2n", "fslt"]
        np.testing.assert_array_equal(rows["train"], [0.7, np.nan, np.nan])


class TestForecastRows:
    TABLE = pd.DataFrame({
        "configuration_id": ["c", "c", "c", "d"],
        "regimen": ["supervised"] * 4,
        "metric": ["el2n", "aum", "aum.train", "fslt"],
        "labels_used": ["own"] * 4,
        "runs": [6, 6, 6, 3],
        "spearman_pair_mean": [0.5, 0.8, 0.7, 0.9],
        "disjoint_halves": [0.7, math.nan, 0.8, 0.9],
    })  # fmt: skip

    def test_half_the_seeds_are_foretold_where_they_were_measured(self):
        rows = stability_figures.forecast_rows(self.TABLE, ["c", "d"])
        # Without a measured value, a variant, and below four seeds.
        assert [*rows["metric"]] == ["el2n"]
        assert rows[["averaged", "predicted", "measured"]].iloc[0].tolist() == [3, 0.75, 0.7]

    def test_of_points_that_lie_together_the_furthest_off_is_named(self):
        many = pd.concat([self.TABLE.iloc[:1]] * 3, ignore_index=True).assign(
            metric=["el2n", "mean_loss", "fslt"],
            disjoint_halves=[0.66, 0.65, 0.74],
        )
        figure = stability_figures.forecast_figure(stability_figures.forecast_rows(many, ["c"]))
        texts = [text.get_text() for text in figure.axes[0].texts]
        assert "mean_loss.supervised" in texts
        assert not {"el2n.supervised", "fslt.supervised"} & {*texts}


class TestDetails:
    """Kendall's tau and intervals belong to the rows that a terminal shows."""

    def test_are_of_the_rows_against_the_reference(self, result):
        has = result.agreement["kendall_tau_b"].notna()
        assert has.equals(result.agreement["right"].str.startswith(REFERENCE))
        assert 0 < has.sum() < len(has)

    def test_are_of_the_pairs_that_agree_best_without_a_reference(self, capsys):
        one = scores(
            "contrastive", [k for k, m in METRICS.items() if m.scope == "run" and "." not in k][:8]
        )
        table = aggregated(one).agreement
        best = table["spearman"].nlargest(20).index
        assert table.index[table["kendall_tau_b"].notna()].tolist() == sorted(best)
        print_agreement(table.assign(approximated_left="", approximated_right=""), "")
        printed = capsys.readouterr().out
        assert "8 more in agreement.csv" in printed
        assert f"{table.loc[best[0], 'kendall_tau_b']:.2f}" in printed


class TestAgreementMatrix:
    def test_worked_example(self):
        table = pd.DataFrame(
            [
                ("a.s", "b.s", 0.5, "uncertainty", "supervised"),
                ("a.s", REFERENCE, 0.2, "uncertainty", "supervised"),
                ("b.s", f"{REFERENCE} without b", 0.7, "supervised", "supervised"),
                ("c.s", REFERENCE, 0.9, "supervised", "supervised"),
            ],
            columns=["left", "right", "spearman", "family_left", "family_right"],
        )
        matrix, families = agreement_figures.agreement_matrix(table, {"a.s": 0.3, REFERENCE: 0.8})
        order = [REFERENCE, "c.s", "b.s", "a.s"]
        expected = [
            [0.8, 0.9, 0.7, 0.2],
            [0.9, np.nan, np.nan, np.nan],
            [0.7, np.nan, np.nan, 0.5],
            [0.2, np.nan, 0.5, 0.3],
        ]
        assert [*matrix.index] == [*matrix.columns] == [*families] == order
        np.testing.assert_array_equal(matrix, expected)
        assert families["a.s"] == "uncertainty"

    def test_is_symmetric_and_holds_every_pair(self, result):
        matrix, families = agreement_figures.agreement_matrix(
            result.agreement, agreement_figures.own_agreement(result)
        )
        np.testing.assert_array_equal(matrix, matrix.T)
        assert len(matrix) == 1 + 8 + 2 + 1
        for row in result.agreement.itertuples():
            right = REFERENCE if row.right.startswith(REFERENCE) else row.right
            assert matrix.loc[row.left, right] == row.spearman
        places = [agreement_figures.FAMILIES.index(family) for family in families.values()]
        assert places == sorted(places)

    def test_is_empty_without_pairs(self):
        matrix, families = agreement_figures.agreement_matrix(pd.DataFrame(), {})
        assert matrix.empty
        assert families == {}


class TestTruthRows:
    """Three scores of each kind against two truths, one that all miss and one that some find."""

    def table(self):
        rows = [
            ("aum", "own", "hardness", 0.9, 0.5),
            ("mean_loss", "own", "hardness", 0.2, 0.5),
            ("aum.train", "own", "hardness", 0.95, 0.5),
            ("cartography_variability", "own", "ambiguity", 0.99, 0.5),
            ("lof", "none", "hardness", 0.55, 0.5),
            ("mine", "none", "hardness", 0.6, 0.5),
            ("msd_std", "none", "hardness", math.nan, math.nan),
            ("energy", "others", "hardness", 0.5, 0.3),
        ]
        return pd.DataFrame(
            [
                {"metric": m, "score": f"{m}.r", "labels_used": u, "measures": of, "truth": truth,
                 "kind": "binary", "samples": 60, "base_rate": 0.1, "auroc": auroc,
                 "auroc_within_class": auroc}
                for m, u, of, *values in rows
                for truth, auroc in zip(("truth_a", "b"), values, strict=True)
            ]
        )  # fmt: skip

    def test_hardness_without_variants_by_distance_from_chance(self):
        rows = agreement_figures.truth_rows(self.table(), 12)
        assert [*dict.fromkeys(rows["score"])] == [
            "mine.r",
            "lof.r",
            "energy.r",
            "aum.r",
            "mean_loss.r",
        ]
        assert (rows.groupby("score").size() == 2).all()

    def test_only_the_most_telling_of_each_kind(self):
        rows = agreement_figures.truth_rows(self.table(), 1)
        assert [*dict.fromkeys(rows["score"])] == ["mine.r", "energy.r", "aum.r"]

    def test_graded_truths_count_by_their_correlation(self):
        table = self.table().assign(spearman=math.nan)
        graded = table[table["truth"] == "b"].assign(kind="graded", auroc=math.nan, spearman=-0.95)
        graded = graded[graded["metric"] == "mean_loss"]
        rows = agreement_figures.truth_rows(
            pd.concat([table[table["truth"] == "truth_a"], graded]), 12
        )
        assert next(s for s in rows["score"] if s in ("aum.r", "mean_loss.r")) == "mean_loss.r"

    def test_is_drawn_beside_the_other_figures(self, result, tmp_path):
        figures.draw(dataclasses.replace(result, truth=self.table()), [], tmp_path, None)
        height, width, _ = matplotlib.image.imread(tmp_path / "truth.png").shape
        assert height > 300
        assert width > 900
        figures.draw(result, [], tmp_path, None)
        assert not (tmp_path / "truth.png").exists()


def test_the_diagonal_is_the_agreement_of_two_seeds(result, supervised):
    own = agreement_figures.own_agreement(result)
    assert own["image_entropy"] == 1
    assert own["aum.supervised"] == spearman_pair_mean(supervised.hardness("aum")).value
    assert 0 < own[REFERENCE] < 1


class TestMapPoints:
    def test_are_the_means_over_seeds_of_the_samples_that_have_them(self, supervised):
        raw = {**supervised.raw}
        raw["cartography_variability"] = raw["cartography_variability"].copy()
        raw["cartography_variability"][0, 2] = np.nan
        other = scores("contrastive", CONTRASTIVE)
        result = aggregated(dataclasses.replace(supervised, raw=raw), other)
        points = image_figures.map_points(result.samples, identity(supervised))
        assert [*points["sample_id"]] == [*np.delete(supervised.sample_ids, 2)]
        confidence = supervised.raw["cartography_confidence"].mean(axis=0)
        np.testing.assert_allclose(points["confidence"], np.delete(confidence, 2))

    def test_are_none_without_the_metrics(self, supervised):
        samples = pd.DataFrame({"configuration_id": [identity(supervised)], "sample_id": [0]})
        assert image_figures.map_points(samples, identity(supervised)).empty


class TestPictured:
    def test_holds_each_score_s_own_ranks(self, result, supervised):
        found = image_figures.pictured(result, result.scores)
        hardness = supervised.hardness("aum").mean(axis=0)
        ranks = found["aum.supervised"].set_index("sample_id")["rank"]
        assert ranks.idxmin() == supervised.sample_ids[hardness.argmax()]
        assert ranks.idxmax() == supervised.sample_ids[hardness.argmin()]

    @pytest.mark.parametrize("closest", ["msd_mean.contrastive", "image_entropy"])
    def test_adds_the_label_free_score_that_agrees_best(self, result, closest):
        table = result.agreement.copy()
        against = table["right"].str.startswith(REFERENCE)
        table.loc[against, "spearman"] = 0.1
        table.loc[against & (table["left"] == closest), "spearman"] = 0.4
        table.loc[against & (table["left"] == "max_softmax.supervised"), "spearman"] = 0.9
        found = image_figures.pictured(dataclasses.replace(result, agreement=table), result.scores)
        assert [*found] == ["aum.supervised", "prototypicality.contrastive", closest]

    def test_adds_none_that_disagrees(self, result):
        table = result.agreement.assign(spearman=-0.5)
        found = image_figures.pictured(dataclasses.replace(result, agreement=table), result.scores)
        assert [*found] == ["aum.supervised", "prototypicality.contrastive"]


class TestExtremes:
    def test_both_ends_in_order(self):
        ranks = pd.DataFrame({"sample_id": [9, 8, 7, 6, 5], "rank": [3.0, 1.0, 5.0, 2.0, 4.0]})
        hardest, easiest = image_figures.extremes(ranks, 2)
        assert [*hardest["sample_id"]] == [8, 6]
        assert [*easiest["sample_id"]] == [7, 5]

    def test_equal_ranks_go_by_id(self):
        ranks = pd.DataFrame({"sample_id": [9, 4, 1, 3], "rank": [1.5, 1.5, 3.5, 3.5]})
        hardest, easiest = image_figures.extremes(ranks, 25)
        assert [*hardest["sample_id"]] == [4, 9]
        assert [*easiest["sample_id"]] == [1, 3]

    def test_samples_without_a_rank_are_at_neither_end(self):
        ranks = pd.DataFrame({"sample_id": [1, 2, 3, 4], "rank": [np.nan, 1.0, 2.0, np.nan]})
        hardest, easiest = image_figures.extremes(ranks, 25)
        assert [*hardest["sample_id"], *easiest["sample_id"]] == [2, 3]

    @pytest.mark.parametrize("ties", [1, 4, 30, 60])
    def test_no_sample_is_at_both_ends(self, ties):
        rank = np.concatenate([np.arange(1.0, 61 - ties), np.full(ties, 60 - (ties - 1) / 2)])
        ranks = pd.DataFrame({"sample_id": np.arange(60), "rank": rank})
        hardest, easiest = image_figures.extremes(ranks, 25)
        assert not {*hardest["sample_id"]} & {*easiest["sample_id"]}
        assert hardest.empty == easiest.empty == (ties == 60)
        if len(hardest):
            assert hardest["rank"].max() < easiest["rank"].min()


def test_an_image_is_found_by_its_id_and_not_by_its_row(monkeypatch, result, tmp_path):
    grids = []
    monkeypatch.setattr(
        image_figures, "_image_grid", lambda *arguments: grids.append(arguments[1:])
    )
    drawn(result, tmp_path, toy_images())
    assert len(grids) >= 4
    for images, _, sample_ids in grids:
        np.testing.assert_array_equal(images[:, 0, 0, 0], np.asarray(sample_ids) % 256)


def test_a_cut_through_equal_ranks_is_told():
    ranks = pd.Series([1.0, 2.0, 4.0, 4.0, 4.0])
    side = pd.DataFrame({"rank": [4.0, 4.0]})
    assert image_figures._side_title(side, ranks, "easiest") == (
        "2 easiest, easiest first (2 of 3 that tie, by id)"
    )
    assert image_figures._side_title(side.assign(rank=[1.0, 2.0]), ranks, "hardest") == (
        "2 hardest, hardest first"
    )


@pytest.fixture(scope="module")
def too_short():
    """No value for any sample in any run, of a metric and of a variant of another."""
    one = scores("supervised", (*SUPERVISED, "msd_discrepancy", "el2n.e20"))
    nothing = np.full_like(one.raw["aum"], np.nan)
    raw = {**one.raw, "msd_discrepancy": nothing, "el2n.e20": nothing}
    return aggregated(dataclasses.replace(one, raw=raw))


class TestAMetricThatRunsAreTooShortFor:
    @pytest.mark.parametrize("key", ["msd_discrepancy", "el2n.e20"])
    def test_its_row_of_stability_says_why_there_is_nothing(self, too_short, key):
        row = too_short.stability.set_index("metric").loc[key]
        assert np.isnan(row["spearman_pair_mean"])
        assert (row["samples"], row["dropped"]) == (0, SAMPLES)
        assert row["reason"] == "needs 2 samples with a score in every run, got 0"

    def test_its_agreement_says_why_there_is_none(self, too_short):
        table = too_short.agreement
        mine = (table[["left", "right"]] == "msd_discrepancy.supervised").any(axis=1)
        assert mine.any()
        assert table.loc[mine, "spearman"].isna().all()
        assert {*table.loc[mine, "reason"]} == {"needs 2 samples with both scores, got 0"}
        assert table.loc[~mine, "spearman"].notna().all()

    def test_its_samples_have_neither_mean_nor_rank(self, too_short):
        for key in ("msd_discrepancy", "el2n.e20"):
            columns = [key, f"{key}.std", f"{key}.rank", f"{key}.mean_rank"]
            assert too_short.samples[columns].isna().all(axis=None)
        assert too_short.samples["aum.rank"].notna().all()

    def test_the_figures_are_drawn_without_it(self, too_short, tmp_path):
        assert {"stability.png", "agreement.png"} <= {*drawn(too_short, tmp_path / "figures")}
