"""A recorder in someone's own loop leaves the folder of a run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics.folder import Dynamics, epoch_file, snapshot_file
from hardness.dynamics.record import Diverged, Recording
from hardness.dynamics.recorder import Recorder
from hardness.files import Damaged
from hardness.metrics.registry import METRICS
from hardness.models.networks import build
from hardness.models.options import ModelOptions
from hardness.scoring.runs import scorable, score_folder
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.signals.names import LOGIT_SIGNALS, TRAIN_PHASE
from hardness.training.classification import evaluate
from hardness.training.options import Supervised, TrainOptions
from hardness.training.pixels import Pixels
from hardness.training.supervised import supervised

SAMPLES, CLASSES, WIDTH, EPOCHS = 30, 4, 5, 3


def drawn(epochs=EPOCHS, samples=SAMPLES):
    """Labels, and logits and embeddings of every epoch."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    logits = 3 * torch.randn(epochs, samples, CLASSES, generator=generator)
    return labels, logits, torch.randn(epochs, samples, WIDTH, generator=generator)


def recorded(folder, *, epochs=range(EPOCHS), seed=0, batch=7, **options):
    """A run of clean passes in shuffled batches; ids are far from positions."""
    labels, logits, emb = drawn()
    ids = 100 + 10 * torch.arange(SAMPLES)
    with Recorder(folder, labels=labels, sample_ids=ids, seed=seed, **options) as recorder:
        for epoch in epochs:
            order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
            for rows in order.split(batch):
                recorder.record(
                    epoch, ids[rows], logits[epoch, rows], embeddings=emb[epoch, rows], phase="eval"
                )
            recorder.end_epoch(val_accuracy=0.5 + epoch)
    return Dynamics(folder)


def every(dynamics):
    """All arrays of a run, to the bit."""
    kept = dynamics.snapshots()
    columns = [name for name in dynamics.manifest.signals if name not in kept]
    arrays = dynamics.signals(columns) | kept
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}


def test_two_lines_in_a_loop_score_every_metric_of_the_training_step(tmp_path):
    """A loop as people write it: a Dataset that yields ids, shuffled, the last batch dropped."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(50, 8, generator=generator)
    targets = (images.sum(1) > 0).long()
    noisy = targets.clone()
    noisy[:5] = 1 - noisy[:5]

    class Numbered(Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return index, images[index], noisy[index]

    torch.manual_seed(0)
    model = nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loader = DataLoader(Numbered(), batch_size=8, shuffle=True, drop_last=True)
    with Recorder(tmp_path / "run", labels=noisy, seed=3) as recorder:
        for epoch in range(12):
            for sample_ids, x, y in loader:
                logits = model(x)
                loss = nn.functional.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.record(epoch, sample_ids, logits)
            recorder.end_epoch(lr=0.5)
    dynamics = Dynamics(tmp_path / "run")
    dynamics.verify()
    assert dynamics.classes == ("0", "1")
    assert [*dynamics.summaries("unseen.train")] == [2.0] * 12
    seen = dynamics.signals(["seen.train"])["seen.train"]
    assert (seen.sum(axis=1) == 48).all()
    scores = score_folder(tmp_path / "run")
    found = [key for key in METRICS if key in scores]
    assert found == scorable(METRICS, [f"{name}.train" for name in TRAIN_PHASE])
    assert {"aum.train", "cartography_variability.train", "aum_pre_decay.train"} <= {*found}
    # A sample that was left out of an epoch still has its scores, of the other epochs.
    assert np.isfinite(scores[found]).all(axis=None)
    hardest = scores.nsmallest(5, "aum.train")["sample_id"]
    assert len({*hardest} & {*range(5)}) >= 4


def test_the_supervised_regimen_s_logits_give_its_own_signals_to_the_bit(tmp_path):
    digits = load(DatasetOptions(name="digits", subset=150), 0.2)
    model, streams = ModelOptions(name="small_cnn", width=4), Streams(seed=0)
    options = Supervised(train=TrainOptions(max_epochs=3, batch_size=32))
    labels = digits.train.labels
    pixels = Pixels(digits.train.images, torch.device("cpu"))
    shape, ids = digits.train.images.shape[1:], digits.train.sample_ids
    network = build(model, image_shape=shape, n_classes=10, streams=streams)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    expected = []
    with Recorder(tmp_path, labels=labels, sample_ids=ids) as recorder:
        for record in supervised(digits, model, options, streams, recording=Recording()):
            if record.epoch < 0:
                continue
            record.checkpoint().restore(network, torch.optim.SGD(network.parameters()))
            emb, logits = evaluate(network, pixels)
            for rows in shuffled.split(17):
                recorder.record(
                    record.epoch, ids[rows], logits[rows], embeddings=emb[rows], phase="eval"
                )
            recorder.end_epoch()
            expected.append(record.signals)
            last = record.snapshots
    dynamics = Dynamics(tmp_path)
    names = [*LOGIT_SIGNALS, "feature_norm", "msd", "msd_cosine"]
    found = dynamics.signals(names)
    for name in names:
        own = np.stack([signals[name] for signals in expected])
        assert found[name].dtype == own.dtype, name
        assert found[name].tobytes() == own.tobytes(), name
    kept = dynamics.snapshots()
    assert kept.keys() == last.keys()
    for name, array in last.items():
        assert kept[name].tobytes() == np.ascontiguousarray(array).tobytes(), name
    assert dynamics.samples["sample_id"].tolist() == ids.tolist()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.integers(1, SAMPLES))
def test_any_order_and_size_of_batches_leaves_the_same_run(tmp_path_factory, seed, size):
    labels, logits, _ = drawn(epochs=1)
    whole = logit_signals.from_logits(logits[0], labels)
    folder = tmp_path_factory.mktemp("run")
    with Recorder(folder, labels=labels) as recorder:
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed))
        for rows in order.split(size):
            recorder.record(0, rows.tolist(), logits[0, rows].numpy(), phase="eval")
        recorder.end_epoch()
    found = Dynamics(folder).signals(LOGIT_SIGNALS)
    for name in LOGIT_SIGNALS:
        assert found[name][0].tobytes() == whole[name].numpy().tobytes(), name


def test_ids_may_come_in_any_order_and_stand_in_ascending_order(tmp_path):
    labels, logits, _ = drawn(epochs=1)
    ids = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(5)) * 3
    columns = pd.DataFrame({"id_again": ids.tolist()})
    with Recorder(tmp_path, labels=labels, sample_ids=ids, columns=columns) as recorder:
        recorder.record(0, ids, logits[0])
        recorder.end_epoch()
    samples = Dynamics(tmp_path).samples
    assert samples["id_again"].tolist() == samples["sample_id"].tolist()
    assert samples["sample_id"].tolist() == sorted(ids.tolist())
    given = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    assert [given[i] for i in samples["sample_id"]] == samples["label"].tolist()


def test_an_unseen_sample_counts_in_the_epochs_in_which_it_was_seen(tmp_path):
    """By hand: sample 1 has margins 2 and -4, was left out in between, and forgot."""
    margins = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, -4.0]])
    with Recorder(tmp_path, labels=[0, 0]) as recorder:
        for epoch, row in enumerate(margins):
            here = np.flatnonzero(~np.isnan(row))
            logits = np.stack([row[here], np.zeros(len(here))], axis=1)
            recorder.record(epoch, here, logits, embeddings=logits, phase="eval")
            recorder.end_epoch()
    dynamics = Dynamics(tmp_path)
    assert dynamics.signals(["seen"])["seen"].tolist() == [[True] * 2, [True, False], [True] * 2]
    assert dynamics.summaries("unseen").tolist() == [0, 1, 0]
    assert np.isnan(dynamics.signals(["label_margin"])["label_margin"][1, 1])
    scores = score_folder(tmp_path)
    assert scores["aum"].tolist() == [3.0, -1.0]
    assert scores["forgetting_events"].tolist() == [0.0, 1.0]
    assert scores["censored"].tolist() == [False, True]
    assert scores["cartography_correctness"].tolist() == [3.0, 1.0]
    # From (2, 0) straight to (-4, 0): the mean of 36 and 0; the other moves by 2 twice.
    assert scores["msd_mean"].tolist() == [2.0, 18.0]


def test_a_sample_that_is_never_seen_has_no_score_and_harms_no_other(tmp_path):
    labels, logits, emb = drawn()
    some = torch.arange(1, SAMPLES)
    with Recorder(tmp_path, labels=labels) as recorder:
        for epoch in range(EPOCHS):
            recorder.record(epoch, some, logits[epoch, 1:], embeddings=emb[epoch, 1:], phase="eval")
            recorder.end_epoch()
    scores = score_folder(tmp_path)
    keys = [k for k in METRICS if k in scores]
    assert scores.loc[0, keys].isna().all()
    assert not scores.loc[0, "never_learned"]
    rest = [k for k in keys if k != "aum_pre_decay" and not k.startswith("msd_discrepancy")]
    assert {"knn_distance", "prototypicality", "aum", "msd_std"} <= {*rest}
    finite = scores.loc[1:, rest].notna().mean()
    assert (finite[["knn_distance", "prototypicality", "aum", "msd_std"]] == 1).all()


def test_of_a_sample_that_comes_twice_the_last_presentation_counts(tmp_path):
    with Recorder(tmp_path, labels=[0, 1]) as recorder:
        recorder.record(0, [0, 1, 0], np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
        recorder.record(0, [1], np.array([[0.0, 7.0]]))
        recorder.end_epoch()
    dynamics = Dynamics(tmp_path)
    assert dynamics.signals(["label_margin.train"])["label_margin.train"].tolist() == [[2.0, 7.0]]
    assert dynamics.summaries("repeated.train").tolist() == [2.0]


def test_labels_may_come_with_the_batches(tmp_path):
    labels, logits, _ = drawn()
    with Recorder(tmp_path / "a", sample_ids=range(SAMPLES)) as recorder:
        for epoch in range(EPOCHS):
            for rows in torch.arange(SAMPLES).split(8):
                recorder.record(epoch, rows, logits[epoch, rows], labels=labels[rows])
            recorder.end_epoch()
    with Recorder(tmp_path / "b", labels=labels) as recorder:
        for epoch in range(EPOCHS):
            recorder.record(epoch, range(SAMPLES), logits[epoch])
            recorder.end_epoch()
    assert every(Dynamics(tmp_path / "a")) == every(Dynamics(tmp_path / "b"))
    assert Dynamics(tmp_path / "a").samples["label"].tolist() == labels.tolist()


def test_both_phases_in_one_folder_stay_apart(tmp_path):
    labels, logits, emb = drawn()
    with Recorder(tmp_path, labels=labels) as recorder:
        for epoch in range(EPOCHS):
            recorder.record(epoch, range(SAMPLES), 2 * logits[epoch])
            recorder.record(
                epoch, range(SAMPLES), logits[epoch], embeddings=emb[epoch], phase="eval"
            )
            recorder.end_epoch()
    found = Dynamics(tmp_path).signals(["label_margin", "label_margin.train"])
    np.testing.assert_allclose(found["label_margin.train"], 2 * found["label_margin"], rtol=1e-6)
    assert {"aum", "aum.train", "knn_distance"} <= {*score_folder(tmp_path)}


def test_each_phase_has_its_own_unseen_samples(tmp_path):
    """The training step leaves sample 1 out of epoch 1, the clean pass sample 0 out of epoch 0."""
    z = np.array([[4.0, 0.0], [2.0, 0.0]])
    with Recorder(tmp_path, labels=[0, 0]) as recorder:
        recorder.record(0, [0, 1], z)
        recorder.record(0, [1], z[1:], phase="eval")
        recorder.end_epoch()
        recorder.record(1, [0], 3 * z[:1])
        recorder.record(1, [0, 1], 3 * z, phase="eval")
        recorder.end_epoch()
    scores = score_folder(tmp_path, ["aum", "aum.train"])
    assert scores["aum.train"].tolist() == [8.0, 2.0]
    assert scores["aum"].tolist() == [12.0, 4.0]


def test_a_loop_without_labels_records_embeddings_alone(tmp_path):
    labels, _, emb = drawn()
    with Recorder(tmp_path, labels=labels, regimen="contrastive") as recorder:
        for epoch in range(EPOCHS):
            recorder.record(epoch, range(SAMPLES), embeddings=emb[epoch], phase="eval")
            recorder.end_epoch()
    scores = score_folder(tmp_path)
    assert {"msd_mean", "knn_distance", "prototypicality"} <= {*scores}
    assert "aum" not in scores
    assert len(Dynamics(tmp_path).classes) == CLASSES


@pytest.mark.parametrize("broken_at", [0, 1, 2])
def test_a_loop_that_breaks_goes_on_to_the_same_bits(tmp_path, broken_at):
    whole = recorded(tmp_path / "whole")

    class BrokenError(Exception):
        pass

    labels, logits, emb = drawn()
    ids = 100 + 10 * torch.arange(SAMPLES)
    folder = tmp_path / "broken"

    def interrupted():
        with Recorder(folder, labels=labels, sample_ids=ids) as recorder:
            for epoch in range(broken_at):
                recorder.record(epoch, ids, logits[epoch], embeddings=emb[epoch], phase="eval")
                recorder.end_epoch(val_accuracy=0.5 + epoch)
            recorder.record(broken_at, ids[:4], -logits[broken_at, :4], embeddings=emb[0, :4],
                            phase="eval")  # fmt: skip
            raise BrokenError

    with pytest.raises(BrokenError):
        interrupted()
    with pytest.raises(Damaged, match=r"expected a run with a manifest\.json"):
        Dynamics(folder)
    assert Recorder(folder, labels=labels, sample_ids=ids).epoch == broken_at
    assert every(recorded(folder, epochs=range(broken_at, EPOCHS))) == every(whole)


@pytest.mark.parametrize("writes", range(4 * EPOCHS + 2))
def test_a_kill_at_any_write_is_taken_up_to_the_same_bits(tmp_path, monkeypatch, writes):
    """Each epoch writes four files, the close two."""
    whole = recorded(tmp_path / "whole")
    replace, done = Path.replace, []

    def killed(self, target):
        done.append(target)
        if len(done) > writes:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as fault:
        fault.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            recorded(tmp_path / "killed")
    (tmp_path / "killed" / "spec.json.partial").write_text("{")
    labels, ids = drawn()[0], 100 + 10 * torch.arange(SAMPLES)
    epoch = Recorder(tmp_path / "killed", labels=labels, sample_ids=ids).epoch
    assert epoch == min(EPOCHS, writes // 4)
    assert every(recorded(tmp_path / "killed", epochs=range(epoch, EPOCHS))) == every(whole)


def test_going_back_to_an_older_checkpoint_drops_what_is_trained_again(tmp_path):
    labels, logits, _ = drawn()
    first = Recorder(tmp_path, labels=labels)
    for epoch in range(2):
        first.record(epoch, range(SAMPLES), -logits[epoch])
        first.end_epoch()
    with Recorder(tmp_path, labels=labels) as recorder:
        assert recorder.epoch == 2
        for epoch in range(1, EPOCHS):
            recorder.record(epoch, range(SAMPLES), logits[epoch])
            recorder.end_epoch()
    found = Dynamics(tmp_path).signals(["label_margin.train"])["label_margin.train"]
    margins = [logit_signals.label_margin_from_logits(z, labels).float().numpy() for z in logits]
    np.testing.assert_array_equal(found[1:], margins[1:])
    np.testing.assert_array_equal(
        found[0], logit_signals.label_margin_from_logits(-logits[0], labels).float()
    )


def test_a_folder_that_lost_its_newest_embeddings_goes_on_one_epoch_earlier(tmp_path):
    """A kill between the two files of an epoch."""
    labels, logits, emb = drawn()
    first = Recorder(tmp_path, labels=labels)
    kept = {}
    for epoch in range(2):
        first.record(epoch, range(SAMPLES), logits[epoch], embeddings=emb[epoch], phase="eval")
        first.end_epoch()
        kept.setdefault(epoch, (tmp_path / snapshot_file(epoch)).read_bytes())
    (tmp_path / snapshot_file(1)).unlink()
    (tmp_path / snapshot_file(0)).write_bytes(kept[0])
    again = Recorder(tmp_path, labels=labels)
    assert again.epoch == 1


def test_embeddings_cannot_go_back_further_than_they_are_kept(tmp_path):
    labels, logits, emb = drawn()
    first = Recorder(tmp_path, labels=labels)
    for epoch in range(3):
        first.record(epoch, range(SAMPLES), logits[epoch], embeddings=emb[epoch], phase="eval")
        first.end_epoch()
    again = Recorder(tmp_path, labels=labels)
    with pytest.raises(ValueError, match="expected epoch 3 or 0, since only the last epoch's"):
        again.record(2, range(SAMPLES), logits[2], embeddings=emb[2], phase="eval")
    again.record(0, range(SAMPLES), logits[0], embeddings=emb[0], phase="eval")
    again.end_epoch()
    again.close()
    assert Dynamics(tmp_path).manifest.epochs == 1
    assert not (tmp_path / epoch_file(1)).exists()


def test_a_run_may_be_closed_as_it_was_left(tmp_path):
    labels, logits, emb = drawn()
    for epoch in range(2):
        recorder = Recorder(tmp_path, labels=labels)
        recorder.record(epoch, range(5), logits[epoch, :5], embeddings=emb[epoch, :5], phase="eval")
        recorder.end_epoch()
    recorder = Recorder(tmp_path, labels=labels)
    recorder.close()
    recorder.close()
    kept = Dynamics(tmp_path).snapshots()["emb"]
    np.testing.assert_array_equal(kept[:5], emb[1, :5])
    assert np.isnan(kept[5:]).all()


def test_logits_that_are_not_finite_leave_the_run_unfinished(tmp_path):
    labels, logits, _ = drawn()
    logits[0, 3, 1] = np.nan

    def run():
        with Recorder(tmp_path, labels=labels) as recorder:
            recorder.record(0, range(SAMPLES), logits[0])
            recorder.end_epoch()

    with pytest.raises(Diverged, match="for 1 samples in epoch 0, such as sample 3"):
        run()
    assert not (tmp_path / "manifest.json").exists()


def test_a_masked_class_of_minus_infinity_is_no_divergence(tmp_path):
    with Recorder(tmp_path, labels=[0, 1]) as recorder:
        recorder.record(0, [0, 1], np.array([[1.0, 0.0, -np.inf], [0.0, 2.0, -np.inf]]))
        recorder.end_epoch()
    assert score_folder(tmp_path)["aum.train"].tolist() == [1.0, 2.0]


def test_half_precision_is_recorded_as_it_is(tmp_path):
    labels, logits, _ = drawn(epochs=1)
    half = logits[0].to(torch.bfloat16)
    with Recorder(tmp_path, labels=labels) as recorder:
        with torch.inference_mode():
            recorder.record(0, range(SAMPLES), half * 1)
        recorder.end_epoch()
    found = Dynamics(tmp_path).signals(["p_label.train"])["p_label.train"][0]
    np.testing.assert_array_equal(
        found, logit_signals.p_label_from_logits(half.double(), labels).float()
    )


def test_the_spec_says_what_was_recorded(tmp_path):
    recorded(tmp_path, seed=4, configuration="wide", parameters={"lr": 0.1})
    spec = json.loads((tmp_path / "spec.json").read_text())
    assert spec["run"]["seed"] == 4
    assert spec["run"]["configuration"]["options"] == {"configuration": "wide", "lr": 0.1}
    assert spec["classes"] == ["0", "1", "2", "3"]
    assert {"versions", "device", "cpu_capability"} <= {*spec}


def batch(**changes):
    """A good batch with something changed."""
    return {"epoch": 0, "sample_ids": [0, 1], "logits": torch.zeros(2, 2), **changes}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"sample_ids": [0, 9]},
            "expected ids among the 3 given to the recorder; got 9",
        ),
        ({"sample_ids": [0.5, 1.0]}, "sample_ids: expected a row of whole numbers; got float64"),
        ({"sample_ids": [[0], [1]]}, "sample_ids: expected a row of whole numbers; got int64"),
        ({"sample_ids": ["a", "b"]}, "sample_ids: expected a row of whole numbers; got"),
        ({"sample_ids": [0]}, "as many rows as the batch has sample_ids, 1; got 2 of logits"),
        ({"logits": torch.zeros(2)}, "logits: expected floats of shape"),
        ({"logits": torch.zeros(2, 2, dtype=torch.int64)}, "got torch.int64 of shape"),
        ({"logits": None}, "expected logits, embeddings or both; got neither"),
        ({"logits": torch.zeros(2, 1)}, "expected labels in 0 to 0"),
        ({"embeddings": torch.zeros(2, 2)}, "expected embeddings with phase='eval' only"),
        ({"labels": [0, 0]}, "labels: expected 1 for sample 1, as before; got 0"),
        ({"labels": [0]}, "expected a label for each of 2 rows; got 1"),
        ({"epoch": 1}, "expected epoch 0, counted from 0; got epoch 1"),
        ({"phase": "valid"}, "phase: expected 'train' or 'eval'; got 'valid'"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_line(tmp_path, changes, line):
    recorder = Recorder(tmp_path, labels=[0, 1, 0])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the line is compared below
        recorder.record(**batch(**changes))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_calls_in_the_wrong_order_say_what_was_expected(tmp_path):
    recorder = Recorder(tmp_path, labels=[0, 1, 0])
    with pytest.raises(ValueError, match="expected at least one epoch; got none"):
        recorder.close()
    with pytest.raises(ValueError, match="expected batches of epoch 0; got none"):
        recorder.end_epoch()
    recorder.record(**batch())
    with pytest.raises(ValueError, match=r"expected end_epoch\(\) after epoch 0; got epoch 1"):
        recorder.record(**batch(epoch=1))
    with pytest.raises(ValueError, match=r"expected end_epoch\(\) after epoch 0; got close\(\)"):
        recorder.close()
    with pytest.raises(ValueError, match="logits: expected 2 classes; got 3"):
        recorder.record(**batch(logits=torch.zeros(2, 3)))
    recorder.end_epoch()
    with pytest.raises(ValueError, match="expected epoch 1; got epoch 0, which has ended"):
        recorder.record(**batch())
    with pytest.raises(ValueError, match="expected only the phases of epoch 0; got 'eval' as well"):
        recorder.record(**batch(epoch=1, phase="eval"))
    recorder.close()
    with pytest.raises(ValueError, match="got a batch after close"):
        recorder.record(**batch(epoch=1))
    with pytest.raises(ValueError, match="expected a new folder; got a finished run"):
        Recorder(tmp_path, labels=[0, 1, 0])


def test_a_phase_that_is_forgotten_is_named(tmp_path):
    recorder = Recorder(tmp_path, labels=[0, 1, 0])
    recorder.record(**batch())
    recorder.record(**batch(phase="eval"))
    recorder.end_epoch()
    recorder.record(**batch(epoch=1))
    with pytest.raises(ValueError, match="epoch 1 in phase 'eval', as in the epochs before"):
        recorder.end_epoch()


def test_an_unfinished_run_goes_on_only_as_itself(tmp_path):
    first = Recorder(tmp_path, labels=[0, 1, 0])
    first.record(**batch())
    first.end_epoch()
    with pytest.raises(ValueError, match="expected the unfinished run"):
        Recorder(tmp_path, labels=[0, 1, 0], seed=1)
    with pytest.raises(ValueError, match="expected the sample ids and labels of the unfinished"):
        Recorder(tmp_path, labels=[0, 1, 1])
    with pytest.raises(ValueError, match="expected the sample ids and labels of the unfinished"):
        Recorder(tmp_path, labels=[0, 1])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "expected labels or sample_ids; got neither"),
        ({"labels": [0, -1]}, "labels: expected classes from 0; got -1"),
        ({"labels": [0, 1], "sample_ids": [3, 3]}, "expected each id once; got 3 twice"),
        ({"labels": [0, 1], "sample_ids": [3]}, "expected a label for each of 1 samples; got 2"),
        (
            {"labels": [0], "columns": pd.DataFrame({"a": [1, 2]})},
            "columns: expected 1 rows; got 2",
        ),
        ({"labels": [0], "regimen": "mine"}, "regimen: expected one of supervised"),
        ({"labels": [0], "parameters": {"a": np.ones(2)}}, "parameters: expected JSON values"),
    ],
)
def test_a_recorder_that_makes_no_sense_is_refused(tmp_path, options, line):
    with pytest.raises(ValueError, match=line):
        Recorder(tmp_path, **options)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="expected a new folder or an unfinished run"):
        Recorder(tmp_path, labels=[0])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_tensors_of_a_gpu_are_recorded(tmp_path):
    labels, logits, emb = drawn()
    with Recorder(tmp_path, labels=labels.cuda()) as recorder:
        for epoch in range(EPOCHS):
            ids = torch.arange(SAMPLES).cuda()
            recorder.record(
                epoch, ids, logits[epoch].cuda(), embeddings=emb[epoch].cuda(), phase="eval"
            )
            recorder.end_epoch()
    found = Dynamics(tmp_path).signals(["loss"])["loss"]
    expected = [logit_signals.loss_from_logits(z, labels).float().numpy() for z in logits]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
