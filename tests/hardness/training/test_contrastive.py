"""Contrastive training: the published losses, no labels, and the same bits after a resume."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from hardness.data.datasets import Dataset
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Diverged, Recording
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.training import REGIMENS
from hardness.training.contrastive import contrastive
from hardness.training.optimization import learning_rate
from hardness.training.options import Contrastive, TrainOptions
from tests.trainings import (
    assert_same_bits,
    assert_same_state,
    few_digits,
    with_checkpoints,
    without_seconds,
)

SEEDED = Streams(seed=0)
OBJECTIVES = ("simclr", "barlow_twins")
MODEL = ModelOptions(name="small_cnn", width=4)
VIEWS = Augmentation(crop_scale=(0.5, 1.0), flip=0.5, contrast=0.4)
EPOCHS = 3


@pytest.fixture(scope="module")
def digits():
    return few_digits()


def options(objective="simclr", **train):
    defaults: dict = {"max_epochs": EPOCHS, "batch_size": 64, "lr": 1e-2, "optimizer": "adamw"}
    return Contrastive(
        objective=objective,
        projection=16,
        train=TrainOptions(**defaults | train),
        augmentation=VIEWS,
    )


def train(dataset, chosen, streams=SEEDED, model=MODEL, **arguments):
    """Records of a training, each with the checkpoint that was there when it came."""
    return with_checkpoints(contrastive(dataset, model, chosen, streams, **arguments))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_records_hold_what_the_regimen_lists(digits, objective):
    records = [record for record, _ in train(digits, options(objective))]
    assert [record.epoch for record in records] == [INIT, 0, 1, 2]
    for record in records:
        assert record.signals.keys() == {*REGIMENS["contrastive"].signals}
        for values in record.signals.values():
            assert values.dtype == np.float32
            assert values.shape == (len(digits.train),)
    assert {*records[-1].snapshots} == {*REGIMENS["contrastive"].snapshots}
    assert not any(record.snapshots for record in records[:-1])
    assert np.isnan(records[1].signals["msd"]).all()
    assert (records[2].signals["msd"] > 0).all()
    assert (records[2].signals["msd"] != records[2].signals["feature_norm"]).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_streams_give_the_same_bits_and_another_seed_differs(digits, objective):
    chosen = options(objective)
    first = train(digits, chosen)
    assert_same_bits(train(digits, chosen), first)
    other = train(digits, chosen, Streams(seed=1))
    for (record, _), (another, _) in zip(first, other, strict=True):
        name = "feature_norm"
        assert record.signals[name].tobytes() != another.signals[name].tobytes()


@pytest.mark.parametrize(
    "schedule",
    [
        {"optimizer": "sgd", "schedule": "one_cycle", "lr": 0.05},
        {"optimizer": "adamw", "schedule": "cosine"},
    ],
    ids=str,
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, tmp_path, objective, schedule):
    chosen = options(objective, **schedule)
    whole = train(digits, chosen)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        assert_same_bits(train(digits, chosen, resume=resume), whole[record.epoch + 2 :])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_labels_do_not_matter(digits, objective):
    shuffled = digits.train.labels.flip(0)
    assert not torch.equal(shuffled, digits.train.labels)
    other = dataclasses.replace(
        digits,
        train=dataclasses.replace(digits.train, labels=shuffled),
        validation=dataclasses.replace(
            digits.validation, labels=torch.zeros_like(digits.validation.labels)
        ),
    )
    chosen = options(objective)
    assert_same_bits(train(other, chosen), train(digits, chosen))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recording_leaves_the_training_alone(digits, objective):
    chosen = options(objective)
    bare = train(digits, chosen, recording=Recording(signals=False, snapshots=()))
    for (record, state), (full, full_state) in zip(bare, train(digits, chosen), strict=True):
        assert not record.signals
        assert not record.snapshots
        assert without_seconds(record) == without_seconds(full)
        assert_same_state(state, full_state)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_falls_on_training_and_validation_images(digits, objective):
    records = [record for record, _ in train(digits, options(objective, max_epochs=8))][1:]
    for name in ("train_loss", "val_loss"):
        losses = [record.summary[name] for record in records]
        assert losses[-1] < losses[0]
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
    rates = [record.summary["lr"] for record in records]
    assert rates == [
        learning_rate(4 * epoch, 32, options(max_epochs=8).train) for epoch in range(8)
    ]


def few(digits, n_train, n_validation):
    return Dataset(
        name="digits",
        classes=digits.classes,
        train=digits.train.take(torch.arange(n_train)),
        validation=digits.validation.take(torch.arange(n_validation)),
        columns=digits.columns.iloc[:n_train],
        digest="",
    )


@pytest.mark.parametrize(("n_train", "n_validation", "part"), [(1, 9, "train"), (9, 1, "valid")])
def test_a_single_sample_has_nothing_to_be_told_from(digits, n_train, n_validation, part):
    message = f"contrastive: expected at least 2 samples to contrast in {part}.*; got 1"
    with pytest.raises(ValueError, match=message):
        train(few(digits, n_train, n_validation), options())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_last_batch_of_one_is_no_batch(digits, objective):
    records = train(few(digits, 65, 2), options(objective))
    assert np.isfinite(records[-1][0].signals["msd"]).all()
    assert math.isfinite(records[-1][0].summary["val_loss"])


def test_a_training_that_leaves_the_finite_numbers_says_what_and_when(digits):
    chosen = options(optimizer="sgd", lr=1e6, schedule="constant", max_epochs=20)
    with pytest.raises(Diverged) as raised:
        train(digits, chosen)
    assert re.fullmatch(
        r"the (training loss|sum of embeddings) became (nan|inf) in epoch \d+", str(raised.value)
    )


def test_a_last_step_that_leaves_the_finite_numbers_is_seen_in_the_embedding(digits):
    """The loss of the only step was still finite."""
    chosen = options(optimizer="sgd", lr=1e38, schedule="constant", max_epochs=1, batch_size=200)
    with pytest.raises(Diverged, match=r"the sum of embeddings became (nan|inf) in epoch 0"):
        train(digits, chosen, model=ModelOptions(name="mlp"))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"temperature": 0.0}, "temperature: expected a positive number; got 0.0"),
        ({"temperature": float("nan")}, "temperature: expected a positive number; got nan"),
        ({"off_diagonal": -1.0}, "off_diagonal: expected 0 or more; got -1.0"),
        ({"projection": 0}, "projection: expected at least 1; got 0"),
    ],
)
def test_options_out_of_range_are_refused(numbers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Contrastive(**numbers)
