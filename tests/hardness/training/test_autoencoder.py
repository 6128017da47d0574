"""Autoencoder training: images of any shape, errors that are true, the same bits after a resume."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from hardness.data.datasets import Dataset, load
from hardness.data.options import DatasetOptions
from hardness.data.source import Samples
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Diverged, Recording
from hardness.models.networks import build
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.training import REGIMENS
from hardness.training.autoencoder import Reconstruction, _halvings, autoencoder
from hardness.training.options import Autoencoder, TrainOptions
from tests.trainings import (
    AUGMENTED,
    SCHEDULES,
    assert_same_bits,
    assert_same_state,
    few_digits,
    with_checkpoints,
    without_seconds,
)

SEEDED = Streams(seed=0)
MODEL = ModelOptions(name="small_cnn", width=4)
LONGER = {"max_epochs": 40, "batch_size": 16}
EPOCHS = 3


@pytest.fixture(scope="module")
def digits():
    return few_digits()


def options(*, augmentation=AUGMENTED, **train):
    defaults: dict = {"max_epochs": EPOCHS, "batch_size": 64, "lr": 1e-2, "optimizer": "adamw"}
    return Autoencoder(
        decoder_channels=4, train=TrainOptions(**defaults | train), augmentation=augmentation
    )


def train(dataset, chosen=None, streams=SEEDED, model=MODEL, **arguments):
    """Records of a training, each with the checkpoint that was there when it came."""
    chosen = options() if chosen is None else chosen
    return with_checkpoints(autoencoder(dataset, model, chosen, streams, **arguments))


def restored(dataset, state):
    """The network of a checkpoint, in eval mode."""
    shape = tuple(dataset.train.images.shape[1:])
    encoder = build(MODEL, image_shape=shape, n_classes=10, streams=Streams(seed=99))
    network = Reconstruction(encoder, shape, 4)
    network.load_state_dict(
        {k.removeprefix("module."): v for k, v in state.tensors.items() if k.startswith("module.")}
    )
    return network.eval()


def seen_by_the_network(images, of):
    """Images normalised with the moments of the training images, by hand."""
    unit = of.images.double() / 255
    mean = unit.mean((0, 2, 3), keepdim=True)
    std = unit.std((0, 2, 3), correction=0, keepdim=True)
    return ((images.double() / 255 - mean) / std).float()


def test_records_hold_what_the_regimen_lists(digits):
    records = [record for record, _ in train(digits)]
    assert [record.epoch for record in records] == [INIT, 0, 1, 2]
    for record in records:
        assert record.signals.keys() == {*REGIMENS["autoencoder"].signals}
        for values in record.signals.values():
            assert values.dtype == np.float32
            assert values.shape == (len(digits.train),)
    assert {*records[-1].snapshots} == {*REGIMENS["autoencoder"].snapshots}
    assert not any(record.snapshots for record in records[:-1])
    assert np.isnan(records[1].signals["msd"]).all()
    assert (records[2].signals["msd"] > 0).all()


def test_errors_are_those_of_the_checkpointed_network_in_units_of_the_pixels(digits):
    """The mean over pixels in 0..1 of the squared difference, image by image."""
    record, state = train(digits)[-1]
    network = restored(digits, state)
    for samples, found in (
        (digits.train, record.signals["reconstruction_error"]),
        (digits.validation, None),
    ):
        x = seen_by_the_network(samples.images, digits.train)
        with torch.inference_mode():
            again = torch.cat([network(image[None]) for image in x]).double()
        error = ((again - samples.images.double() / 255) ** 2).mean((1, 2, 3))
        if found is not None:
            np.testing.assert_allclose(found, error, rtol=1e-4)
        else:
            assert record.summary["val_loss"] == pytest.approx(error.mean().item(), rel=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, tmp_path, schedule):
    chosen = options(**SCHEDULES[schedule])
    whole = train(digits, chosen)
    assert_same_bits(train(digits, chosen), whole)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        assert_same_bits(train(digits, chosen, resume=resume), whole[record.epoch + 2 :])


def test_nothing_follows_what_runs_between_the_epochs(digits):
    alone = train(digits)
    packed = []
    for record in autoencoder(digits, MODEL, options(), SEEDED):
        packed.append((record, record.checkpoint()))
        torch.rand(3)
    assert_same_bits(packed, alone)


@pytest.mark.parametrize("purpose", ["weights", "order", "augmentation", "dropout"])
def test_one_varied_stream_is_enough_to_differ_and_only_weights_matter_before(digits, purpose):
    one, other = (
        train(digits, options(max_epochs=1), Streams(seed=seed, vary=(purpose,))) for seed in (0, 1)
    )
    name = "reconstruction_error"
    for epoch, differs in ((0, purpose == "weights"), (1, True)):
        same = one[epoch][0].signals[name].tobytes() == other[epoch][0].signals[name].tobytes()
        assert same != differs


def test_labels_do_not_matter(digits):
    other = dataclasses.replace(
        digits, train=dataclasses.replace(digits.train, labels=digits.train.labels.flip(0))
    )
    assert_same_bits(train(other), train(digits))


def test_recording_leaves_the_training_alone(digits):
    bare = train(digits, recording=Recording(signals=False, snapshots=()))
    for (record, state), (full, full_state) in zip(bare, train(digits), strict=True):
        assert not record.signals
        assert not record.snapshots
        assert without_seconds(record) == without_seconds(full)
        assert_same_state(state, full_state)


@pytest.mark.parametrize("model", [MODEL, ModelOptions(name="mlp", width=16)], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_learns_more_than_the_mean_image(digits, model, schedule):
    chosen = options(augmentation=Augmentation(), **SCHEDULES[schedule] | LONGER)
    last, _ = train(digits, chosen, model=model)[-1]
    unit = digits.train.images.double() / 255
    held = digits.validation.images.double() / 255
    assert last.summary["val_loss"] < 0.7 * (held - unit.mean(0)).square().mean()


def test_an_image_unlike_the_others_scores_harder(digits):
    """Noise among digits: the sign as published for outliers."""
    images, rows = digits.train.images.clone(), torch.arange(0, 200, 40)
    generator = torch.Generator().manual_seed(0)
    images[rows] = torch.randint(256, (5, 1, 8, 8), generator=generator, dtype=torch.uint8)
    planted = dataclasses.replace(digits, train=dataclasses.replace(digits.train, images=images))
    last, _ = train(planted, options(max_epochs=20, augmentation=Augmentation()))[-1]
    rank = last.signals["reconstruction_error"].argsort().argsort()
    assert (rank[rows] > 170).all()


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 8, 8), "small_cnn"),
        ((1, 1, 1), "mlp"),
        ((2, 7, 5), "small_cnn"),
        ((3, 3, 20), "mlp"),
        ((1, 28, 28), "small_cnn"),
        ((3, 32, 32), "resnet18_cifar"),
        ((3, 224, 224), "small_cnn"),
        ((3, 64, 48), "mobilenet_v3_small"),
    ],
)
def test_images_of_any_shape_are_reproduced_in_it(shape, name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, *shape), generator=generator, dtype=torch.uint8)
    samples = Samples(images=images, labels=torch.zeros(6).long(), sample_ids=torch.arange(6))
    columns = load(DatasetOptions(name="digits", subset=20), 0.5).columns.iloc[:0]
    dataset = Dataset(
        name="tiny", classes=("a",), train=samples, validation=samples, columns=columns, digest=""
    )
    plain = options(max_epochs=2, augmentation=Augmentation())
    records = train(dataset, plain, model=ModelOptions(name=name))
    network = Reconstruction(
        build(ModelOptions(name=name), image_shape=shape, n_classes=1, streams=SEEDED), shape, 4
    )
    assert network.eval()(torch.zeros(2, *shape)).shape == (2, *shape)
    assert all(np.isfinite(record.signals["reconstruction_error"]).all() for record, _ in records)


def test_the_decoder_starts_from_few_pixels():
    assert _halvings(8, 8) == [(8, 8), (4, 4)]
    assert _halvings(7, 5) == [(7, 5), (4, 3)]
    assert _halvings(1, 1) == [(1, 1)]
    assert _halvings(3, 20) == [(3, 20), (2, 10), (1, 5), (1, 3)]
    assert _halvings(224, 224)[-1] == (4, 4)
    assert len(_halvings(224, 224)) == 7


@pytest.mark.parametrize("n", [1, 65])
def test_a_single_sample_and_a_last_batch_of_one(digits, n):
    rows = torch.arange(n)
    part = dataclasses.replace(
        digits, train=digits.train.take(rows), columns=digits.columns.iloc[:n]
    )
    last, _ = train(part)[-1]
    assert np.isfinite(last.signals["reconstruction_error"]).all()
    assert math.isfinite(last.summary["val_loss"])


def test_bf16_trains_and_records_single_precision(digits):
    last, _ = train(digits, options(precision="bf16"))[-1]
    exact, _ = train(digits)[-1]
    name = "reconstruction_error"
    assert last.signals[name].dtype == np.float32
    assert last.signals[name].tobytes() != exact.signals[name].tobytes()
    assert np.isfinite(last.signals[name]).all()


def test_a_training_that_leaves_the_finite_numbers_says_what_and_when(digits):
    chosen = options(optimizer="sgd", lr=1e30, schedule="constant", max_epochs=20)
    with pytest.raises(Diverged) as raised:
        train(digits, chosen)
    assert re.fullmatch(
        r"the (training loss|sum of embeddings|sum of errors) became (nan|inf|-inf) in epoch \d+",
        str(raised.value),
    )


def test_a_decoder_without_channels_is_refused():
    with pytest.raises(ValueError, match="decoder_channels: expected at least 1; got 0"):
        Autoencoder(decoder_channels=0)
