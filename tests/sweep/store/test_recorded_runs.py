"""Runs of other loops and programs: the tables of a sweep, from a folder."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from hardness.dynamics.recorder import Recorder
from hardness.scoring.runs import score_folder
from sweep.aggregation.collected_scores import join
from sweep.errors import Mistake
from sweep.store.recorded_runs import gather, given_scores
from tests.sweep.sweeps import command

SAMPLES, CLASSES, EPOCHS = 60, 3, 4


def labels(changed=()):
    found = torch.randint(CLASSES, (SAMPLES,), generator=torch.Generator().manual_seed(0))
    found[list(changed)] = (found[list(changed)] + 1) % CLASSES
    return found


def record(folder, seed, *, epochs=EPOCHS, changed=(), ids=None, clean=True, **options):
    """A run whose samples share how hard they are with other seeds."""
    given = labels(changed)
    ids = torch.arange(SAMPLES) * 2 if ids is None else ids
    hard = torch.rand(SAMPLES, 1, generator=torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(100 + seed)
    with Recorder(folder, labels=given, sample_ids=ids, seed=seed, **options) as recorder:
        for epoch in range(epochs):
            one_hot = torch.nn.functional.one_hot(given, CLASSES)
            z = (epoch + 1) * one_hot * (1.5 - hard)
            z = z + 0.5 * torch.randn(SAMPLES, CLASSES, generator=noise)
            recorder.record(epoch, ids, z)
            if clean:
                recorder.record(epoch, ids, z, embeddings=torch.tanh(z), phase="eval")
            recorder.end_epoch(lr=0.1)


def cartography(folder, seed):
    given, noise = labels(), torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    for epoch in range(EPOCHS):
        z = torch.nn.functional.one_hot(given, CLASSES) * epoch
        z = z + torch.randn(SAMPLES, CLASSES, generator=noise)
        column = f"logits_epoch_{epoch}"
        table = {"guid": [*range(SAMPLES)], column: z.tolist(), "gold": given.tolist()}
        path = folder / f"dynamics_epoch_{epoch}.jsonl"
        pd.DataFrame(table).to_json(path, lines=True, orient="records")


def test_runs_are_found_at_any_depth_with_their_seeds_and_configurations(tmp_path):
    runs = tmp_path / "runs"
    record(runs / "a" / "first", 3, configuration="a", parameters={"lr": 0.1})
    record(runs / "a" / "second", 5, configuration="a", parameters={"lr": 0.1})
    record(runs / "b", 3, configuration="b")
    # What an earlier aggregation left is no input, even inside.
    record(runs / "out" / "runs" / "x", 3, configuration="a")
    found = gather(runs, runs / "out")
    assert [(dict(p.parameters), p.number) for p in found.proposals] == [
        ({"configuration": "a", "lr": 0.1}, 0),
        ({"configuration": "b"}, 1),
    ]
    assert [(c.run.seed, c.state, c.trace.epochs) for c in found.cells] == [
        (3, "done", EPOCHS),
        (5, "done", EPOCHS),
        (3, "done", EPOCHS),
    ]
    assert len({c.run.run_id for c in found.cells}) == 3
    (note,) = found.notes
    assert note.startswith("agreement and figures show configuration 'a', the first of 2")


def test_a_run_that_was_recorded_anew_is_another_run(tmp_path):
    ids = set()
    for lr in (1, 2):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        record(tmp_path / "runs", 0, epochs=lr)
        ids |= {c.run.run_id for c in gather(tmp_path / "runs", tmp_path / "out").cells}
    assert len(ids) == 2


def test_a_run_that_was_broken_off_is_missing_and_says_why(tmp_path):
    record(tmp_path / "runs" / "0", 0)
    record(tmp_path / "runs" / "1", 1)
    record(tmp_path / "runs" / "2", 2)
    (tmp_path / "runs" / "1" / "manifest.json").unlink()
    (tmp_path / "runs" / "2" / "dynamics" / "epoch=0001.parquet").unlink()
    cells = gather(tmp_path / "runs", tmp_path / "out").cells
    assert [c.state for c in cells] == ["done", "missing", "missing"]
    assert cells[1].trace.reason.startswith("unfinished: no manifest.json in ")
    assert cells[2].trace.reason.startswith("damaged: ")


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ({"seed": 0}, "configuration 'default': expected one run of seed 0; got "),
        (
            {"ids": torch.arange(SAMPLES)},
            "expected the same sample ids in every run; got other ids",
        ),
        (
            {"changed": (7,)},
            "expected the same labels in every run; got another label for sample 14",
        ),
        (
            {"epochs": 2},
            "configuration 'default': expected 4 epochs for every seed; got 2 for seed 1",
        ),
    ],
)
def test_runs_that_do_not_belong_together_are_refused_in_one_line(tmp_path, second, line):
    record(tmp_path / "runs" / "0", 0)
    record(tmp_path / "runs" / "1", **{"seed": 1, **second})
    with pytest.raises(Mistake) as caught:
        gather(tmp_path / "runs", tmp_path / "out")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def spec(**changes):
    """A recorder's own spec with something changed."""
    configuration = {
        "regimen": "supervised", "numerics_version": 0, "dataset": {}, "model": {}, "options": {},
        "vary": [], **changes.pop("configuration", {}),
    }  # fmt: skip
    run = {"configuration": configuration, "seed": 0, **changes.pop("run", {})}
    circumstances = {"device": "", "versions": {}, "cpu_capability": ""}
    return json.dumps({"run": run, "classes": ["0"], **circumstances, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "{}",
        '{"run": {"configuration": {"regimen": "supervised"}}}',
        spec(run={"seed": "0"}),
        spec(run={"seed": True}),
        spec(run={"configuration": None}),
        spec(classes=3),
        spec(versions=None, device=None).replace('"device"', '"devise"'),
        spec(configuration={"regimen": "../../etc"}),
        spec(configuration={"regimen": ["supervised"]}),
        spec(configuration={"options": "lr"}),
        spec(configuration={"options": {"lr": float("nan")}}),
        spec(configuration={"vary": 3}),
        spec(configuration={"__class__": "os.system"}),
    ],
)
def test_a_spec_that_is_none_is_refused_in_one_line(tmp_path, text):
    record(tmp_path / "runs", 0)
    (tmp_path / "runs" / "spec.json").write_text(text)
    with pytest.raises(Mistake, match=r"spec\.json: expected the spec of a run; got") as caught:
        gather(tmp_path / "runs", tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_good_spec_is_what_those_differ_from(tmp_path):
    record(tmp_path / "runs", 0)
    (tmp_path / "runs" / "spec.json").write_text(spec())
    # The manifest tells that it is not the one that was written.
    assert gather(tmp_path / "runs", tmp_path / "out").cells[0].state == "missing"


def test_a_folder_without_runs_says_what_was_expected(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "spec.json").write_text("of something else")
    with pytest.raises(Mistake, match="expected folders of a recorder, dynamics_epoch_0"):
        gather(tmp_path / "runs", tmp_path / "out")


def test_files_of_other_programs_become_runs(tmp_path):
    for seed in range(2):
        cartography(tmp_path / "in" / f"model-{seed}" / "training_dynamics", seed)
    found = gather(tmp_path / "in", tmp_path / "out")
    assert [(c.run.seed, c.trace.tracking_run) for c in found.cells] == [
        (seed, str(tmp_path / "out" / "runs" / f"cartography-{seed}")) for seed in range(2)
    ]
    assert [note.rpartition("/")[2] for note in found.notes] == [
        f"training_dynamics counts as seed {seed} of the configuration cartography"
        for seed in range(2)
    ]
    again = gather(tmp_path / "in", tmp_path / "out")
    assert [c.run.run_id for c in again.cells] == [c.run.run_id for c in found.cells]


def test_aum_s_values_are_a_run_whose_labels_are_unknown(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "aum_values.csv").write_text("sample_id,aum\n4,-1.5\n2,2.0\n")
    for place in (tmp_path / "in", tmp_path / "in" / "aum_values.csv"):
        found = gather(place, tmp_path / "out")
        assert len(found.cells) == 1
        assert found.notes[1].endswith("has no labels: its samples count as one class")
    scores = score_folder(tmp_path / "out" / "runs" / "aum-0", ["aum.train"])
    assert scores.to_dict("list") == {"sample_id": [2, 4], "aum.train": [2.0, -1.5]}


def test_given_scores_are_hard_where_high_unless_said_or_known(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("sample_id,votes,trust,aum\n1,0.5,2,3\n4,1.5,3,-1\n")
    found = given_scores([path], ["trust"])
    assert {name: one.tolist() for name, one in found.items()} == {
        "votes.mine": [0.5, 1.5],
        "trust.mine": [-2.0, -3.0],
        "aum.mine": [-3.0, 1.0],
    }
    with pytest.raises(Mistake, match="unknown column 'vote' in --scores; known: aum, "):
        given_scores([path], ["vote"])
    with pytest.raises(Mistake, match=r"got votes\.mine twice"):
        given_scores([path, path], [])
    with pytest.raises(Mistake, match=r"--scores: .*gone\.csv: expected a readable"):
        given_scores([tmp_path / "gone.csv"], [])


def test_given_scores_are_put_in_our_order_and_gaps_are_counted():
    notes = []
    given = {"votes.mine": pd.Series([0.5, 1.5, 2.5], index=[9, 4, 7])}
    found = join(given, np.array([4, 5, 9]), notes)
    np.testing.assert_array_equal(found["votes.mine"], [1.5, np.nan, 0.5])
    assert notes == ["votes.mine lacks 1 of 3 samples and has 1 more"]
    with pytest.raises(Mistake, match=r"votes\.mine: expected sample ids of these runs"):
        join(given, np.array([1, 2]), notes)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty working directory without any tracking store."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_recorder_s_folders_give_the_tables_of_a_sweep(alone):
    for seed in range(3):
        record(alone / "runs" / f"a-{seed}", seed, configuration="a")
    record(alone / "runs" / "a-3", 3, configuration="a")
    (alone / "runs" / "a-3" / "manifest.json").unlink()
    ids = 2 * np.arange(SAMPLES)
    mine = pd.DataFrame({"sample_id": ids[5:], "easy": -ids[5:], "aum": 1.0 * ids[5:]})
    mine.to_parquet(alone / "mine.parquet")
    given = ("--scores", "mine.parquet", "--low-is-hard", "easy")
    code, out, err = command("aggregate", "runs", *given)
    assert code == 1
    assert err.startswith("sweep: seed 3: unfinished: no manifest.json in ")
    assert "Stability across 3 seeds · supervised configuration=a" in out
    assert "Agreement with the supervised reference ranking" in out
    assert "note: easy.mine lacks 5 of 60 samples and has 0 more" in out
    folder = alone / "runs-hardness"
    assert {p.name for p in folder.iterdir()} == {
        "stability.csv", "agreement.csv", "samples.parquet", "notes.csv", "scores", "figures",
    }  # fmt: skip
    assert {p.name for p in alone.iterdir()} == {"runs", "runs-hardness", "mine.parquet"}
    stability = pd.read_csv(folder / "stability.csv")
    assert (stability["runs"][stability["metric"] == "aum"] == 3).all()
    assert {"aum", "aum.train", "msd_mean", "knn_distance"} <= {*stability["metric"]}
    assert stability["missing_seeds"].str.startswith("seed 3: unfinished").all()
    assert stability.set_index("metric")["spearman_pair_mean"]["aum"] > 0.5
    agreement = pd.read_csv(folder / "agreement.csv").set_index(["left", "right"])
    with_reference = agreement.loc[("easy.mine", "supervised_reference")]
    assert with_reference["dropped"] == 5
    assert agreement.loc[("easy.mine", "aum.mine"), "spearman"] == pytest.approx(-1)
    # Someone's AUM meets the reference less what is nearly AUM.
    assert ("aum.mine", "supervised_reference without aum") in agreement.index
    samples = pd.read_parquet(folder / "samples.parquet").set_index("sample_id")
    own = [score_folder(alone / "runs" / f"a-{seed}", ["aum"])["aum"] for seed in range(3)]
    np.testing.assert_array_equal(samples["aum"], np.mean(own, axis=0))
    assert {p.name for p in (folder / "figures").iterdir()} == {
        "stability.png", "agreement.png", "data_map.png",
    }  # fmt: skip

    before = {p: p.stat().st_mtime_ns for p in (folder / "scores").iterdir()}
    tables = {n: (folder / n).read_bytes() for n in ("stability.csv", "agreement.csv")}
    assert command("aggregate", "./runs", *given)[0] == 1
    assert {p: p.stat().st_mtime_ns for p in (folder / "scores").iterdir()} == before
    assert {n: (folder / n).read_bytes() for n in tables} == tables

    code, out, err = command(
        "compare", "runs", "aum", "easy.mine", *given, "--format", "csv"
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[1].startswith("aum.supervised,easy.mine,55,5,")
    code, _, err = command("compare", "runs", "aum", "easy")
    assert code == 2
    assert err.startswith("sweep: unknown metric 'easy'; known: ")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_cartography_s_dynamics_give_tables_of_the_training_step(alone):
    for seed in range(3):
        cartography(alone / "glue" / f"model-{seed}" / "training_dynamics", seed)
    code, out, err = command("aggregate", "glue", "--output", "tables", "--no-intervals")
    assert code == 0, err
    assert "Stability across 3 seeds · supervised configuration=cartography" in out
    assert "cartography_confidence.train" in out
    assert "Agreement of every two metrics" in out
    stability = pd.read_csv(alone / "tables" / "stability.csv")
    assert stability["metric"].str.endswith(".train").all()
    agreement = pd.read_csv(alone / "tables" / "agreement.csv")
    assert {"aum.train.supervised", "forgetting_events.train.supervised"} <= {*agreement["left"]}
    figures = {p.name for p in (alone / "tables" / "figures").iterdir()}
    assert figures == {"stability.png", "agreement.png", "data_map.png"}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_mistakes_end_with_2_and_one_line(alone):
    record(alone / "runs" / "0", 0)
    record(alone / "runs" / "1", 1, changed=(3,))
    for arguments, line in (
        (("aggregate", "runs"), "expected the same labels in every run"),
        (("aggregate", "./gone"), "./gone: expected a folder of runs; got no such place"),
        (("aggregate", "./runs/0", "--scores", "gone.csv"), "--scores: gone.csv: expected"),
        (("compare", "./runs", "aum"), "expected the same labels in every run"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"sweep: {line}")
        assert len(err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_run_whose_content_was_changed_is_not_scored(alone):
    record(alone / "runs", 0)
    path = alone / "runs" / "dynamics" / "epoch=0001.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    code, _, err = command("aggregate", "./runs")
    assert code == 1
    assert "sweep: no run is done, so there is nothing to aggregate" in err
    assert "damaged: " in err
    assert "epoch=0001.parquet: expected the manifest's digest; got another" in err
