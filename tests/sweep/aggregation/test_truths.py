"""Metrics against the truth: from the runs' samples and from files to tables."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.stability import spearman_within_class_pair_mean
from hardness.comparison.truth import auroc
from hardness.comparison.variance import variance_components
from hardness.dynamics.recorder import Recorder
from hardness.metrics.registry import METRICS
from sweep.aggregation import agreement_table, stability_table, truth_table
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.aggregation.truths import Truths, given_truths, of_run
from sweep.errors import Mistake
from sweep.experiment.runs import Configuration
from sweep.report import terminal
from sweep.store.run_folders import RunFolders
from tests.sweep.sweeps import command

SAMPLES = 90
NOISE = "truth_noise_symmetric"


def wrong_labels():
    return (np.arange(SAMPLES) % 6 == 0).astype(float)


def configuration(regimen, effects, *, seeds=3, salt=0):
    """Scores by metric, raw values that are the harder by an effect where the label is wrong."""
    generator = np.random.default_rng((7, salt))
    return ConfigurationScores(
        configuration=Configuration(
            regimen=regimen, numerics_version=1, dataset={"name": "toy"}, model={}, options={}
        ),
        parameters={},
        seeds=tuple(range(seeds)),
        runs=tuple(f"{regimen} {seed}" for seed in range(seeds)),
        sample_ids=3 * np.arange(SAMPLES),
        labels=np.arange(SAMPLES) % 3,
        raw={
            key: METRICS[key].sign
            * (effect * wrong_labels() + generator.normal(size=(seeds, SAMPLES)))
            for key, effect in effects.items()
        },
        flags={},
        missing={},
        objective=0.9,
    )


EFFECTS = {"mean_loss": 1.2, "aum": 0.8, "aum.train": 0.8, "cartography_variability": 0.8}


@pytest.fixture(scope="module")
def scores():
    supervised = configuration("supervised", EFFECTS)
    return [supervised, configuration("contrastive", {"prototypicality": 0}, salt=1)]


def swept(scores):
    goal = SimpleNamespace(metric=SimpleNamespace(goal="maximize"))
    regimens = {one.configuration.regimen: goal for one in scores}
    return SimpleNamespace(spec=SimpleNamespace(regimens=regimens))


def against(scores, truths, *, intervals=False, pixels=None, given=None, keys=None):
    return truth_table.against_truths(
        swept(scores), scores, pixels or {}, given or {}, truths, intervals=intervals, keys=keys
    )


def votes():
    return wrong_labels() + np.arange(SAMPLES) / SAMPLES


class TestTable:
    def test_is_of_the_mean_hardness_over_runs(self, scores):
        table = against(scores, {NOISE: wrong_labels()}).set_index("score")
        for key in EFFECTS:
            row = table.loc[f"{key}.supervised"]
            expected = auroc(mean_over_runs(scores[0].hardness(key)), wrong_labels()).value
            assert row["auroc"] == expected > 0.7
            assert (row["metric"], row["labels_used"]) == (key, "own")
        assert table.loc["cartography_variability.supervised", "measures"] == "ambiguity"
        assert table.loc["prototypicality.contrastive", "labels_used"] == "none"
        assert table.loc["prototypicality.contrastive", "auroc"] == pytest.approx(0.5, abs=0.2)

    def test_the_entropy_of_the_image_is_held_fixed_where_it_is_known(self, scores):
        entropy = {"image_entropy": np.random.default_rng(0).normal(size=SAMPLES)}
        assert {*against(scores, {"v": votes()})["control"]} == {"class mean"}
        held = against(scores, {"v": votes()}, pixels=entropy)
        assert {*held["control"]} == {"image_entropy"}
        assert "image_entropy" in {*held["score"]}

    def test_scores_by_others_join(self, scores):
        table = against(scores, {NOISE: wrong_labels()}, given={"mine.file": wrong_labels()})
        row = table.set_index("score").loc["mine.file"]
        assert (row["auroc"], row["labels_used"], row["family"]) == (1, "unknown", "given")

    def test_chosen_metrics_alone(self, scores):
        table = against(scores, {NOISE: wrong_labels()}, keys=["aum", NOISE])
        assert table["score"].tolist() == ["aum.supervised"]

    def test_there_is_none_without_a_truth(self, scores):
        assert against(scores, {}).empty
        assert against([], {NOISE: wrong_labels()}).empty


class TestNotes:
    def test_a_leak_is_told(self):
        scores = [configuration("contrastive", {"prototypicality": 2, "msd_mean": 0})]
        table = against(scores, {NOISE: wrong_labels()}, intervals=True)
        (note,) = truth_table.truth_notes(table)
        assert note.startswith("prototypicality.contrastive sees no labels, yet tells")

    def test_other_truths_and_scores_that_see_labels_may_differ_from_chance(self, scores):
        other = against(scores, {"truth_rare": wrong_labels()}, intervals=True)
        own = against(scores[:1], {NOISE: wrong_labels()}, intervals=True)
        assert truth_table.truth_notes(other) == truth_table.truth_notes(own) == []
        assert truth_table.truth_notes(pd.DataFrame()) == []

    def test_a_winner_among_those_that_measure_hardness(self, scores):
        truths = {NOISE: wrong_labels(), "votes": votes()}
        (note,) = truth_table.winners(swept(scores), scores, {}, {}, truths)
        assert note.startswith(f"{NOISE}: best of 3 scores by AUROC is mean_loss.supervised; a ")


class TestUnplanted:
    def test_stability_stands_beside_that_of_all(self, scores):
        unplanted = wrong_labels() == 0
        table = stability_table.beside_unplanted(
            stability_table.stability_table(scores), scores, Truths(unplanted=unplanted)
        ).set_index("metric")
        one = scores[0]
        expected = spearman_within_class_pair_mean(
            one.hardness("mean_loss")[:, unplanted], one.labels[unplanted]
        )
        within = table["spearman_within_class_pair_mean_unplanted"]
        assert within["mean_loss"] == expected.value
        assert within["mean_loss"] < table["spearman_within_class_pair_mean"]["mean_loss"]

    def test_without_planting_nothing_is_added(self, scores):
        table = stability_table.stability_table(scores)
        assert stability_table.beside_unplanted(table, scores, Truths()) is table


class TestVariance:
    def test_is_of_regimens_with_several_configurations(self, scores):
        assert stability_table.variance_table(scores).empty
        more = configuration("supervised", {"mean_loss": 1, "aum": 1}, seeds=4, salt=2)
        table = stability_table.variance_table([*scores, more]).set_index("metric")
        assert {*table.index} == {"mean_loss", "aum"}
        row = table.loc["aum"]
        assert row[["sample", "sample_by_configuration", "seed"]].sum() == pytest.approx(1)
        assert (row["configurations"], row["runs"]) == (2, 3)
        assert row["reason"] == "1 runs left out for balance"
        both = [one.hardness("aum") for one in (scores[0], more)]
        assert row["sample"] == variance_components(both).sample


class TestTerminal:
    def test_variants_and_what_measures_something_else_stay_in_the_file(self, scores, capsys):
        terminal.print_truth(against(scores, {NOISE: wrong_labels()}, intervals=True))
        out = capsys.readouterr().out
        assert f"Truth {NOISE} · 16.7% of 90 samples" in out
        assert "mean_loss.supervised" in out
        assert "aum.train" not in out
        assert "cartography_variability" not in out
        assert "lift" in out

    def test_every_row_where_it_was_asked_for(self, scores, capsys):
        table = against(scores, {"votes": votes()}, keys=["aum.train", "cartography_variability"])
        terminal.print_truth(table, every=True)
        out = capsys.readouterr().out
        assert "aum.train.supervised" in out
        assert "cartography_variability.supervised" in out
        assert "with class mean held fixed" in out

    def test_is_limited(self, scores, capsys):
        many = {f"score{k}.file": np.random.default_rng(k).normal(size=SAMPLES) for k in range(25)}
        terminal.print_truth(against(scores, {NOISE: wrong_labels()}, given=many))
        assert "… 5 more in truth.csv" in capsys.readouterr().out

    def test_nothing_is_printed_of_nothing(self, capsys):
        terminal.print_truth(pd.DataFrame())
        terminal.print_differences(pd.DataFrame())
        assert capsys.readouterr().out == ""

    def test_differences_for_people_and_programs(self, scores, capsys):
        truths, keys = {NOISE: wrong_labels(), "votes": votes()}, ["aum", "mean_loss"]
        table = agreement_table.agreement_table(
            swept(scores), scores, {}, intervals=False, keys=keys, truths=truths
        )
        differences = truth_table.differences_on_truths(
            swept(scores), scores, {}, {}, truths, keys=keys
        )
        terminal.print_differences(differences)
        assert f"Differences on {NOISE}, left minus right" in capsys.readouterr().out
        whole = terminal.with_truth(table, against(scores, truths, keys=keys), differences)
        assert len(whole) == len(table) == 6  # of four, two of which are truths
        found = whole.set_index(["left", "right"])
        aum, loss = ("aum.supervised", NOISE), ("mean_loss.supervised", NOISE)
        difference = found.loc[("mean_loss.supervised", "aum.supervised")]
        column = f"auroc_difference.{NOISE}"
        assert difference[column] == pytest.approx(found["auroc"][loss] - found["auroc"][aum])
        assert difference[f"auroc_difference_low.{NOISE}"] < difference[column]
        assert "spearman_difference.votes" in whole
        assert np.isnan(found["auroc"][("mean_loss.supervised", "aum.supervised")])


def record(folder, seed, columns):
    """A run that finds the wrong labels hard."""
    labels, ids = torch.arange(SAMPLES) % 3, torch.arange(SAMPLES) * 3
    wrong = torch.from_numpy(wrong_labels())[:, None]
    noise = torch.Generator().manual_seed(seed)
    with Recorder(
        folder, labels=labels, sample_ids=ids, seed=seed, configuration="a", columns=columns
    ) as recorder:
        for epoch in range(4):
            one_hot = torch.nn.functional.one_hot(labels, 3)
            z = (epoch + 1) * one_hot * (1 - 1.5 * wrong)
            z = z + torch.randn(SAMPLES, 3, generator=noise, dtype=torch.float64)
            recorder.record(epoch, ids, z)
            recorder.record(epoch, ids, z, embeddings=torch.tanh(z), phase="eval")
            recorder.end_epoch(lr=0.1)


def columns(**more):
    planted = np.where(wrong_labels() == 1, "noise_symmetric", "")
    truth = {"truth_votes": votes(), NOISE: wrong_labels() == 1}
    return pd.DataFrame({"planted": planted, **truth, **more})


class TestOfRun:
    def test_columns_of_truth_by_sample_id(self, tmp_path):
        record(tmp_path / "run", 0, columns(truth_kind="cat"))
        ids, notes = 3 * np.arange(SAMPLES)[::-1], []
        found = of_run(RunFolders(), str(tmp_path / "run"), ids, notes)
        assert [*found.by_name] == ["truth_votes", NOISE]
        np.testing.assert_array_equal(found.by_name[NOISE], wrong_labels()[::-1])
        np.testing.assert_array_equal(found.unplanted, wrong_labels()[::-1] == 0)
        assert len(notes) == 1
        assert notes[0].startswith("truth_kind: expected a truth in numbers; got ")

    def test_samples_of_unknown_truth_are_missing(self, tmp_path):
        record(tmp_path / "run", 0, columns())
        found = of_run(RunFolders(), str(tmp_path / "run"), np.array([0, 1]), [])
        assert found.by_name["truth_votes"].tolist()[0] == 1
        assert np.isnan(found.by_name["truth_votes"][1])

    def test_what_cannot_be_read_is_told(self, tmp_path):
        notes = []
        assert of_run(RunFolders(), str(tmp_path), np.array([0]), notes) == Truths()
        assert notes[0].startswith("no truth of samples.parquet: ")


class TestFiles:
    def test_a_column_is_called_by_its_file(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text("sample_id,wrong,votes\n4,1,0.5\n2,0,\n")
        found = given_truths([path])
        assert [*found] == ["wrong.people", "votes.people"]
        assert found["wrong.people"].to_dict() == {4: 1, 2: 0}

    def test_what_does_not_fit_is_refused(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text("sample_id,wrong\n4,yes\n")
        with pytest.raises(Mistake, match=r"--truth: .*people\.csv: expected numbers in column"):
            given_truths([path])
        path.write_text("sample_id,wrong\n4,1\n")
        with pytest.raises(Mistake, match=r"got wrong\.people twice"):
            given_truths([path, path])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_planted_and_given_truths_from_runs_to_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        record(tmp_path / "runs" / str(seed), seed, columns())
    people = pd.DataFrame({"sample_id": 3 * np.arange(SAMPLES), "wrong": wrong_labels()})
    people[5:].to_csv("people.csv", index=False)
    given = ("--truth", "people.csv")
    code, out, err = command("aggregate", "runs", *given)
    assert code == 0, err
    assert f"Truth {NOISE} · 16.7% of 90 samples" in out
    assert "note: wrong.people lacks 5 of 90 samples and has 0 more" in out
    assert "agreement.csv, truth.csv, samples.parquet" in out
    found = pd.read_csv("runs-hardness/truth.csv").set_index(["truth", "score"])
    assert {*found.index.get_level_values("truth")} == {"truth_votes", NOISE, "wrong.people"}
    loss = found.loc[(NOISE, "mean_loss.supervised")]
    assert loss["auroc"] > 0.9
    assert loss["auroc_least"] <= loss["auroc_low"] <= loss["auroc"] <= loss["auroc_high"]
    assert found.loc[("wrong.people", "aum.train.supervised"), "dropped"] == 5
    assert found["spearman"]["truth_votes", "aum.supervised"] > 0.3
    stability = pd.read_csv("runs-hardness/stability.csv")
    assert stability["spearman_within_class_pair_mean_unplanted"].notna().any()
    assert stability["icc_c1"].notna().any()

    names = ("aum", "mean_loss", NOISE, "wrong.people")
    code, out, err = command("compare", "runs", *names, *given)
    assert code == 0, err
    assert f"Differences on {NOISE}, left minus right" in out
    agreement, _, truth = out.partition("Truth ")
    assert "mean_loss" in agreement
    assert NOISE not in agreement
    assert "wrong.people" in truth
    code, out, err = command("compare", "runs", *names, *given, "--format", "json")
    assert code == 0, err
    rows = {(row["left"], row["right"]): row for row in json.loads(out)}
    assert rows[("mean_loss.supervised", NOISE)]["auroc"] == pytest.approx(loss["auroc"])
    code, _, err = command("compare", "runs", "aum", "truth_rare")
    assert code == 2
    assert err.startswith("sweep: unknown metric 'truth_rare'; known: ")
    # A truth that is no longer given leaves no table behind.
    assert command("aggregate", "runs", "--no-intervals")[0] == 0
    assert "wrong.people" not in {*pd.read_csv("runs-hardness/truth.csv")["truth"]}
