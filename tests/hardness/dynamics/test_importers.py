"""Files of other programs, as those programs write them and as they should not be."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from aum import AUMCalculator

from hardness.dynamics.folder import Dynamics
from hardness.dynamics.importers import (
    import_aum,
    import_cartography,
    is_aum,
    is_cartography,
    read_scores,
)
from hardness.dynamics.recorder import Recorder
from hardness.scoring.runs import score_folder

SAMPLES, CLASSES, EPOCHS = 20, 3, 5


def drawn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return labels, 2 * torch.randn(EPOCHS, SAMPLES, CLASSES, generator=generator)


def orders():
    return [
        torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(e)) for e in range(EPOCHS)
    ]


def cartography(folder, *, guid=lambda row: 100 + 7 * row):
    """What log_training_dynamics of allenai/cartography writes, with the pandas that it calls."""
    labels, logits = drawn()
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, rows in enumerate(orders()):
        table = pd.DataFrame(
            {
                "guid": [guid(row) for row in rows.tolist()],
                f"logits_epoch_{epoch}": logits[epoch, rows].tolist(),
                "gold": labels[rows].tolist(),
            }
        )
        table.to_json(folder / f"dynamics_epoch_{epoch}.jsonl", lines=True, orient="records")
    return folder


def test_cartography_s_own_lines_are_read(tmp_path):
    """Lines of the shape of sample/training_dynamics; confidence by hand."""
    zero = '{"guid":2115631346111,"logits_epoch_0":[0.0,0.0],"gold":1}\n'
    one = '{"guid":2115631346111,"logits_epoch_1":[0.0,1.0986122887],"gold":1}\n'
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(zero)
    (tmp_path / "dynamics_epoch_1.jsonl").write_text(one)
    assert is_cartography(tmp_path)
    import_cartography(tmp_path, tmp_path / "run")
    scores = score_folder(tmp_path / "run")
    assert scores["sample_id"].tolist() == [2115631346111]
    np.testing.assert_allclose(scores["cartography_confidence.train"], (0.5 + 0.75) / 2, rtol=1e-7)
    np.testing.assert_allclose(scores["cartography_variability.train"], 0.125, rtol=1e-6)
    assert scores["cartography_correctness.train"].tolist() == [1.0]


def test_cartography_s_metrics_agree_with_its_formulas(tmp_path):
    import_cartography(cartography(tmp_path / "training_dynamics"), tmp_path / "run")
    labels, logits = drawn()
    probs = torch.softmax(logits, dim=-1)
    true = np.array(
        [[float(probs[e, i, labels[i]]) for i in range(SAMPLES)] for e in range(EPOCHS)]
    )
    scores = score_folder(tmp_path / "run")
    assert scores["sample_id"].tolist() == [100 + 7 * row for row in range(SAMPLES)]
    for name, expected in (
        ("confidence", true.mean(0)),
        ("variability", true.std(0)),
        ("correctness", (logits.argmax(-1) == labels).sum(0)),
    ):
        np.testing.assert_allclose(scores[f"cartography_{name}.train"], expected, rtol=1e-5)


def test_the_files_give_what_a_recorder_in_the_loop_would_have(tmp_path):
    import_cartography(cartography(tmp_path / "dynamics", guid=int), tmp_path / "read")
    labels, logits = drawn()
    with Recorder(tmp_path / "recorded", labels=labels) as recorder:
        for epoch, rows in enumerate(orders()):
            recorder.record(epoch, rows, logits[epoch, rows])
            recorder.end_epoch()
    read, recorded = score_folder(tmp_path / "read"), score_folder(tmp_path / "recorded")
    # Its JSON keeps ten decimals.
    pd.testing.assert_frame_equal(read, recorded, rtol=1e-6)


def test_guids_of_text_are_numbered_the_same_way_whatever_the_order(tmp_path):
    def guid(row):
        return f"{chr(97 + row)}-1"

    cartography(tmp_path / "a", guid=guid)
    cartography(tmp_path / "b", guid=guid)
    first = tmp_path / "b" / "dynamics_epoch_0.jsonl"
    first.write_text("\n".join(reversed(first.read_text().splitlines())))
    for name in "ab":
        import_cartography(tmp_path / name, tmp_path / f"run-{name}")
    samples = Dynamics(tmp_path / "run-a").samples
    assert samples["sample_id"].tolist() == [*range(SAMPLES)]
    assert samples["guid"].tolist() == [guid(row) for row in range(SAMPLES)]
    pd.testing.assert_frame_equal(samples, Dynamics(tmp_path / "run-b").samples)


def good_line(**changes):
    return {"guid": 1, "logits_epoch_0": [0.5, 1.0], "gold": 1, **changes}


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[" * 100_000,
        "[]",
        "7",
        json.dumps(good_line(gold="entailment")),
        json.dumps(good_line(gold=True)),
        json.dumps(good_line(gold=-1)),
        json.dumps(good_line(gold=10**30)),
        json.dumps(good_line(gold=2)),
        json.dumps(good_line(guid=None)),
        json.dumps(good_line(guid=[1])),
        json.dumps(good_line(logits_epoch_0=[])),
        json.dumps(good_line(logits_epoch_0=[1.0, None])),
        json.dumps(good_line(logits_epoch_0=[1.0, "2"])),
        json.dumps(good_line(logits_epoch_0=[1.0, float("nan")])),
        json.dumps(good_line(logits_epoch_0=[10**400, 1])),
        json.dumps({"guid": 1, "logits_epoch_1": [0.5, 1.0], "gold": 1}),
        "",
    ],
)
def test_a_line_that_is_not_cartography_s_is_refused_in_one_line(tmp_path, line):
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match="expected") as caught:
        import_cartography(tmp_path, tmp_path / "run")
    assert "dynamics_epoch_0.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "dynamics_epoch_0.jsonl").write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(ValueError, match="expected lines of JSON"):
        import_cartography(tmp_path, tmp_path / "run")


def test_a_gap_in_the_epochs_is_named(tmp_path):
    cartography(tmp_path)
    (tmp_path / "dynamics_epoch_2.jsonl").unlink()
    with pytest.raises(ValueError, match="without a gap; got epochs 0, 1, 3, 4"):
        import_cartography(tmp_path, tmp_path / "run")


def test_rows_of_another_width_are_named(tmp_path):
    lines = [json.dumps(good_line()), json.dumps(good_line(guid=2, logits_epoch_0=[1, 2, 3]))]
    (tmp_path / "dynamics_epoch_0.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"line 2: .* logits_epoch_0 \(2 numbers\)"):
        import_cartography(tmp_path, tmp_path / "run")


def aum(folder, *, left_out=()):
    """The package's own files, and what it computed."""
    labels, logits = drawn()
    calculator = AUMCalculator(str(folder), compressed=False)
    for epoch, rows in enumerate(orders()):
        here = torch.tensor([row for row in rows.tolist() if (epoch, row) not in left_out])
        calculator.update(logits[epoch, here], labels[here], here.tolist())
    with warnings.catch_warnings():
        # Its call of pandas is one that pandas will drop.
        warnings.filterwarnings("ignore", "The inplace keyword")
        calculator.finalize()
    return {i: calculator.sums[i] / calculator.counts[i] for i in range(SAMPLES)}


@pytest.mark.parametrize("file", ["aum_values.csv", "full_aum_records.csv"])
@pytest.mark.parametrize("left_out", [(), ((0, 3), (2, 3), (4, 5))])
def test_what_the_package_saves_gives_back_its_scores(tmp_path, file, left_out):
    expected = aum(tmp_path, left_out=left_out)
    assert is_aum(tmp_path / file)
    import_aum(tmp_path / file, tmp_path / "run")
    scores = score_folder(tmp_path / "run")
    assert scores["sample_id"].tolist() == [*expected]
    np.testing.assert_allclose(scores["aum.train"], [*expected.values()], rtol=1e-12)


def test_the_recorder_agrees_with_the_package_on_the_same_logits(tmp_path):
    left_out = ((0, 3), (2, 3), (4, 5))
    expected = aum(tmp_path / "aum", left_out=left_out)
    labels, logits = drawn()
    with Recorder(tmp_path / "run", labels=labels) as recorder:
        for epoch, rows in enumerate(orders()):
            here = torch.tensor([row for row in rows.tolist() if (epoch, row) not in left_out])
            recorder.record(epoch, here, logits[epoch, here])
            recorder.end_epoch()
    scores = score_folder(tmp_path / "run")
    np.testing.assert_allclose(scores["aum.train"], [*expected.values()], rtol=1e-6)


def test_full_records_also_tell_when_the_label_won(tmp_path):
    aum(tmp_path)
    import_aum(tmp_path / "full_aum_records.csv", tmp_path / "run")
    labels, logits = drawn()
    correct = (logits.argmax(-1) == labels).numpy()
    dynamics = Dynamics(tmp_path / "run")
    np.testing.assert_array_equal(dynamics.signals(["correct.train"])["correct.train"], correct)
    assert dynamics.samples["label"].tolist() == labels.tolist()
    assert len(dynamics.classes) == CLASSES


def test_the_swapped_columns_of_its_first_versions_are_told_apart(tmp_path):
    aum(tmp_path / "new")
    table = pd.read_csv(tmp_path / "new" / "full_aum_records.csv")
    swapped = {"target_logit": "target_val", "other_logit": "other_val"}
    table = table.rename(columns=swapped | {v: k for k, v in swapped.items()})
    (tmp_path / "old").mkdir()
    table.to_csv(tmp_path / "old" / "full_aum_records.csv", index=False)
    for name in ("old", "new"):
        import_aum(tmp_path / name / "full_aum_records.csv", tmp_path / f"run-{name}")
    old, new = (score_folder(tmp_path / f"run-{name}") for name in ("old", "new"))
    pd.testing.assert_frame_equal(old, new)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sample_id,score\n1,2\n", "expected the columns sample_id, aum; got sample_id, score"),
        ("sample_id,aum\n", "expected the columns sample_id, aum; got no rows"),
        ("sample_id,aum\n1,high\n", "expected numbers in column 'aum'"),
        ("sample_id,aum\n1,2\n1,3\n", "expected each sample_id once"),
        ("", "expected a readable .csv or .parquet file"),
    ],
)
def test_a_file_that_is_not_aum_s_is_refused(tmp_path, text, line):
    (tmp_path / "aum_values.csv").write_text(text)
    with pytest.raises(ValueError, match=line):
        import_aum(tmp_path / "aum_values.csv", tmp_path / "run")


@pytest.mark.parametrize("column", ["target_logit", "num_measurements"])
def test_records_that_contradict_themselves_are_refused(tmp_path, column):
    aum(tmp_path)
    path = tmp_path / "full_aum_records.csv"
    table = pd.read_csv(path)
    table.loc[1, column] = -3
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match="expected one class per sample, from 0"):
        import_aum(path, tmp_path / "run")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_of_anyone_are_columns_by_sample(tmp_path, ending):
    path = tmp_path / f"mine.{ending}"
    table = pd.DataFrame({"sample_id": [5, 3], "mine": [0.5, np.nan], "rare": [True, False]})
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    scores = read_scores(path)
    assert scores.index.tolist() == [5, 3]
    assert scores["rare"].tolist() == [1.0, 0.0]
    assert scores["mine"].iloc[0] == 0.5
    assert np.isnan(scores["mine"].iloc[1])


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"id": [1], "a": [1.0]}, "expected the columns sample_id; got id, a"),
        ({"sample_id": [1.5], "a": [1.0]}, "expected whole numbers in sample_id; got fractions"),
        ({"sample_id": [1, 1], "a": [1.0, 2.0]}, "expected each sample_id once; got 1 again"),
        ({"sample_id": [1]}, "expected columns of scores beside sample_id"),
        ({"sample_id": [1], "a": ["x"]}, "expected numbers in column 'a'"),
    ],
)
def test_a_table_that_holds_no_scores_is_refused(tmp_path, table, line):
    pd.DataFrame(table).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=line):
        read_scores(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["gone.csv", "scores.pkl", "scores.parquet"])
def test_a_file_that_is_no_table_is_refused(tmp_path, name):
    if name != "gone.csv":
        (tmp_path / name).write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(ValueError, match=r"expected a readable \.csv or \.parquet file"):
        read_scores(tmp_path / name)
