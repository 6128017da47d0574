"""Pruning for real: a sweep's scores choose, other seeds train again, differences are paired."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hardness.data import datasets
from hardness.data.options import DatasetOptions
from hardness.data.parts import class_counts
from sweep.errors import Mistake
from sweep.experiment.check import check
from sweep.experiment.runs import RunSpec
from sweep.planning import search
from sweep.pruning import retraining
from sweep.report import prune_figure, style
from tests.sweep.sweeps import cells, command, experiment, train

LABELS = np.repeat([0, 1, 2], [20, 10, 10])
CONTENT = {
    "name": "digits",
    "dataset": {"name": "digits", "subset": 120},
    "dataset_digest": "0" * 64,
    "dataset_size": [90, 10, 1, 8, 8],
    "validation": {"split": 0.25},
    "plant": {"noise_symmetric": {"rate": 0.1}},
    "model": {"name": "small_cnn", "width": 4},
    "regimens": {"supervised": {"train": {"max_epochs": 4, "batch_size": 16, "lr": 0.05}}},
    "metrics": ["aum"],
}


def trained(**train):
    """The one configuration of a sweep, with other options of its training."""
    regimens = {"supervised": {"train": {**CONTENT["regimens"]["supervised"]["train"], **train}}}
    (only,) = search.proposals(check({**CONTENT, "regimens": regimens}, "digits"), [], {})
    return only.configuration


class TestArms:
    def arms(self, keeps=(0.5,), hardness=None):
        hardness = np.arange(40.0) if hardness is None else hardness
        again = trained(max_epochs=10, batch_size=10)
        return retraining.arms(again, {"aum": hardness}, LABELS, 3, keeps)

    def test_worked_example(self):
        found, parts = self.arms()
        assert [arm.parameters for arm in found] == [
            {"keep": 1.0, "part": "all"},
            {"keep": 0.5, "part": "hardest by aum"},
            {"keep": 0.5, "part": "random like hardest by aum"},
            {"keep": 0.5, "part": "easiest by aum"},
            {"keep": 0.5, "part": "random like easiest by aum"},
        ]
        whole, *others = (arm.configuration for arm in found)
        assert whole == trained(max_epochs=10, batch_size=10)
        hardest, like_hardest, easiest, like_easiest = (c.dataset["part"] for c in others)
        assert parts[hardest["ids"]].tolist() == list(range(20, 40))
        assert parts[easiest["ids"]].tolist() == list(range(20))
        assert like_hardest == {"counts": [0, 10, 10]}
        assert like_easiest == {"counts": [20, 0, 0]}

    def test_every_arm_takes_as_many_steps(self):
        found, _ = self.arms(keeps=(0.9, 0.5, 0.25))
        epochs = {
            arm.parameters["keep"]: arm.configuration.options["train"]["max_epochs"]
            for arm in found
        }
        assert epochs == {1.0: 10, 0.9: 10, 0.5: 20, 0.25: 40}
        steps = {keep: each * -(-round(40 * keep) // 10) for keep, each in epochs.items()}
        assert steps == {1.0: 40, 0.9: 40, 0.5: 40, 0.25: 40}

    def test_a_sample_without_a_score_is_told(self):
        hardness = np.append(np.arange(39.0), np.nan)
        with pytest.raises(Mistake, match=r"^--by aum: expected a score .* got none for 1 of 40"):
            self.arms(hardness=hardness)


def test_arms_keep_their_ids_and_read_back_from_the_store_as_they_were():
    """The ids are those under which the first pruned runs are stored."""
    labels = np.repeat([0, 1, 2], 30)
    arms, _ = retraining.arms(trained(), {"aum": np.arange(90.0)}, labels, 3, [0.5])
    scores: Any = SimpleNamespace(configuration=trained())
    kept = json.loads(json.dumps(retraining.content(CONTENT, scores, [7, 8], arms)))
    spec = check(kept, "digits-prune")
    assert spec.arms == tuple(arms)
    found = search.proposals(spec, [], {})
    assert found == arms
    runs = {
        p.parameters["part"]: RunSpec(configuration=p.configuration, seed=7).run_id for p in found
    }
    assert runs == {
        "all": "d8e6dc5c114574ae",
        "hardest by aum": "cb02a8ae59c41f8a",
        "random like hardest by aum": "bd8b7cec40d6eb31",
        "easiest by aum": "9d86b39db7ddb376",
        "random like easiest by aum": "b5ee91ffacd2cf13",
    }


def test_arms_of_the_same_samples_are_trained_once():
    scores = {"aum": np.arange(40.0), "el2n": np.arange(40.0) ** 2}
    arms, _ = retraining.arms(trained(), scores, LABELS, 3, [0.5])
    spec = replace(check(CONTENT, "digits"), arms=tuple(arms))
    assert len(arms) == 9
    assert search.proposals(spec, [], {}) == arms[:5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.5", "--keep: expected shares between 0 and 1; got 1.5"),
        ("0.9,0", "--keep: expected shares between 0 and 1; got 0"),
        ("half", "--keep: expected shares such as 0.9,0.7; got 'half'"),
        ("nan", "--keep: expected shares between 0 and 1; got nan"),
    ],
)
def test_wrong_shares_are_told_in_one_line(text, said):
    with pytest.raises(Mistake) as caught:
        retraining.shares(text)
    assert str(caught.value) == said


def test_no_number_is_cut_where_names_are_long(capsys):
    arms = ("hardest", "random like hardest", "easiest", "random like easiest")
    scores = ("label_quality_normalized_margin.cross_fit", "forgetting_events.supervised")
    rows = [{"by": "", "keep": 1.0, "arm": "all"}]
    rows += [{"by": by, "keep": 0.125, "arm": arm} for by in scores for arm in arms]
    numbers = {"accuracy": 0.17512, "accuracy_low": -0.77812, "accuracy_high": 1.12812}
    numbers |= {f"difference{end}": -0.07512 for end in ("", "_low", "_high")}
    planted = {f"share_truth_{kind}": 0.125 for kind in ("noise_symmetric", "noise_image_blur")}
    shared = {"samples": 40_000, "seeds": 5, "missing_seeds": "", **numbers, **planted}
    prune_figure.print_pruning(pd.DataFrame([row | shared for row in rows]), "mine")
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(f"Trained on parts of mine by {by}" in shown for by in scores)
    assert shown.count("0.175 [-0.778, 1.128]") == 2 * 5
    assert shown.count("0.125   random like easiest") == 2
    assert shown.count("12.5%") == 2 * 5 * 2


@pytest.mark.parametrize("scores", [("aum",), ("aum", "el2n"), ("aum", "el2n", "grand")])
def test_no_name_is_cut_in_the_figure(scores):
    arms = ("hardest", "random like hardest", "easiest", "random like easiest")
    rows = [{"by": "", "keep": 1.0, "arm": "all"}]
    rows += [{"by": by, "keep": k, "arm": arm} for by in scores for arm in arms for k in (0.5, 0.9)]
    numbers = {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0}
    with mpl.style.context(style.STYLE, after_reset=True):
        figure = prune_figure._pruning_figure(pd.DataFrame([row | numbers for row in rows]))
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [*arms, "all"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, ray_session):
    folder = tmp_path_factory.mktemp("prune")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        path = experiment(folder, epochs=4, lrs="[0.05]")
        noise = "plant={noise_symmetric: {rate: 0.1}}"
        # Validation as it is where the file leaves it out.
        asked = (noise, "validation=", "metrics=[aum, msd_mean]")
        train(path, *asked)
    return folder


def ended(store, sweep):
    """When each run of a sweep last ended: training it again would move that."""
    runs = {c.run.run_id: store.client.get_run(c.trace.tracking_run) for c in sweep.cells}
    return {run_id: (run.info.run_id, run.info.end_time) for run_id, run in runs.items()}


@pytest.mark.slow
class TestPrune:
    @pytest.fixture(autouse=True)
    def _here(self, swept, monkeypatch):
        monkeypatch.chdir(swept)

    ASKED = ("prune", "small", "--by", "aum", "--keep", "0.5", "--seeds", "3")

    def test_trains_what_is_missing_once_and_pairs_by_seed(self, swept):
        code, out, err = command(*self.ASKED)
        assert code == 0, err
        assert "Trained on parts of small" in out
        table = pd.read_csv(swept / "sweeps" / "small-prune" / "prune.csv", keep_default_na=False)
        assert (swept / "sweeps" / "small-prune" / "figures" / "prune.png").stat().st_size > 10_000
        assert table["arm"].tolist()[0] == "all"
        assert len(table) == 1 + 4
        assert (table["seeds"] == 3).all()
        store, sweep = cells("small-prune")
        assert {c.run.seed for c in sweep.cells} == {2, 3, 4}
        accuracy = {
            (c.run.configuration.configuration_id, c.run.seed): c.trace.objectives["val_accuracy"]
            for c in sweep.cells
        }
        ids = {a.parameters["part"]: a.configuration.configuration_id for a in sweep.spec.arms}
        pairs = [
            [accuracy[ids[f"{which} by aum.supervised"], seed] for seed in (2, 3, 4)]
            for which in ("hardest", "random like hardest")
        ]
        paired = stats.ttest_rel(*pairs)
        row = table[(table["by"] == "aum.supervised") & (table["arm"] == "hardest")].iloc[0]
        low, high = paired.confidence_interval()
        np.testing.assert_allclose(
            float(row["difference"]), np.mean(pairs[0]) - np.mean(pairs[1]), atol=1e-12
        )
        np.testing.assert_allclose(
            [float(row["difference_low"]), float(row["difference_high"])], [low, high]
        )

        # The runs trained on the samples that the table says, each under its own id.
        digits = datasets.load(DatasetOptions(name="digits", subset=120))
        samples = {}
        for cell in sweep.cells:
            folder = store.local_folder(cell.trace.tracking_run)
            samples[cell.run.run_id] = pd.read_parquet(folder / "samples.parquet")
        of_arm = {
            which: [
                samples[c.run.run_id]
                for c in sweep.cells
                if c.run.configuration.configuration_id == ids[f"{which} by aum.supervised"]
            ]
            for which in ("hardest", "random like hardest")
        }
        hardest, others = of_arm["hardest"], of_arm["random like hardest"]
        assert all(len(s) == 54 for s in hardest + others)
        # By the mean margin over the two scoring seeds, low is hard.
        margins = [
            pd.read_parquet(swept / "sweeps" / "small" / "scores" / f"{c.run.run_id}.parquet")
            for c in cells("small")[1].cells
            if c.run.configuration.regimen == "supervised"
        ]
        mean = sum(m.set_index("sample_id")["aum"] for m in margins) / len(margins)
        assert {*hardest[0]["sample_id"]} == {*mean.nsmallest(54).index}
        assert all(s["sample_id"].tolist() == hardest[0]["sample_id"].tolist() for s in hardest)
        drawn = {tuple(s["sample_id"]) for s in others}
        assert len(drawn) == 3
        counts = {class_counts(s["label"].to_numpy(), 10) for s in hardest + others}
        assert len(counts) == 1
        assert {i for s in samples.values() for i in s["sample_id"]} <= {
            *digits.train.sample_ids.tolist()
        }
        # Noise is hard to a classifier.
        share = table.set_index(["by", "arm"])["share_truth_noise_symmetric"].astype(float)
        assert share["aum.supervised", "hardest"] > share["aum.supervised", "easiest"]
        np.testing.assert_allclose(share["", "all"], 10 / 108)

        runs = ended(store, sweep)
        code, again, _ = command(*self.ASKED)
        assert code == 0
        assert ended(*cells("small-prune")) == runs
        assert again.splitlines()[0] == out.splitlines()[0]
        code, _, err = command("aggregate", "small-prune", "--no-figures")
        assert (code, err) == (
            2,
            "sweep: small-prune: expected a sweep with scores; got one that prunes\n",
        )
        code, shown, _ = command("status", "small-prune")
        assert code == 0
        assert "hardest by aum.supervised" in shown

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("small", "--by", "el3n"), "--by: unknown metric 'el3n'; known: aum, "),
            (
                ("small", "--by", "aum", "--seeds", "1:4"),
                "--seeds: expected seeds that no score comes from; got 1",
            ),
            (("small", "--by", "aum", "--seeds", "1"), "--seeds: expected 2 seeds or more; got 1"),
            (
                ("small", "--by", "aum", "--configuration", "zz"),
                "--configuration: expected one of ",
            ),
            (("small", "--by", "msd_mean.train"), "--by: unknown metric"),
            (("smaller", "--by", "aum"), "no sweep named 'smaller'"),
        ],
    )
    def test_a_mistake_is_told_in_one_line_and_nothing_made(self, swept, arguments, said):
        before = sorted(p.name for p in (swept / "sweeps").iterdir())
        code, _, err = command("prune", *arguments)
        assert code == 2
        assert err.startswith(f"sweep: {said}")
        assert err.count("\n") == 1
        assert sorted(p.name for p in (swept / "sweeps").iterdir()) == before

    def test_a_sweep_that_bears_the_name_already_is_left_alone(self, swept):
        path = experiment(swept, name="other", epochs=1, lrs="[0.05]", seeds="1")
        for name in ("other", "other-prune"):
            train(path, f"name={name}")
        kept = cells("other-prune")[0].read_sweep()
        code, _, err = command("prune", "other", "--by", "aum", "--seeds", "2")
        assert code == 2
        said = "sweep: expected other-prune to be a free name; got another sweep of this name"
        assert err == f"{said}\n"
        assert cells("other-prune")[0].read_sweep() == kept

    def test_what_would_run_is_told(self):
        code, out, err = command(
            "prune", "small", "--by", "aum", "msd_mean.contrastive", "--keep", "0.5",
            "--seeds", "20:23", "--dry-run",
        )  # fmt: skip
        assert code == 0, err
        assert "27 cells, 27 to train" in out
        assert "hardest by aum.supervised" in out
        assert "random like easiest by msd_mean.contrastive" in out
