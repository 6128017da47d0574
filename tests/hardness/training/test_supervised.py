"""Supervised training: the same bits whatever happens around it, and signals that are true."""

import re

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hardness.data.datasets import Dataset, load
from hardness.data.options import DatasetOptions
from hardness.data.source import Samples
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Diverged, Recording
from hardness.models.networks import build
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.signals.names import LOGIT_SIGNALS
from hardness.training import REGIMENS
from hardness.training.options import Supervised, TrainOptions
from hardness.training.supervised import supervised
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
EPOCHS = 3


@pytest.fixture(scope="module")
def digits():
    return few_digits()


def options(*, augmentation=AUGMENTED, **train):
    defaults = {"max_epochs": EPOCHS, "batch_size": 64, "lr": 0.1}
    return Supervised(train=TrainOptions(**defaults | train), augmentation=augmentation)


def train(dataset, chosen=None, streams=SEEDED, model=MODEL, **arguments):
    """Records of a training, each with the checkpoint that was there when it came."""
    chosen = options() if chosen is None else chosen
    return with_checkpoints(supervised(dataset, model, chosen, streams, **arguments))


def differs(one, other, name="loss"):
    return one[0].signals[name].tobytes() != other[0].signals[name].tobytes()


def restored(dataset, state, model=MODEL):
    """The network of a checkpoint, in eval mode."""
    network = build(
        model,
        image_shape=tuple(dataset.train.images.shape[1:]),
        n_classes=len(dataset.classes),
        streams=Streams(seed=99),
    )
    network.load_state_dict(
        {k.removeprefix("module."): v for k, v in state.tensors.items() if k.startswith("module.")}
    )
    return network.eval()


def seen_by_the_network(samples, of):
    """Images normalised with the moments of the training images, by hand."""
    unit = of.images.double() / 255
    mean = unit.mean((0, 2, 3), keepdim=True)
    std = unit.std((0, 2, 3), correction=0, keepdim=True)
    return ((samples.images.double() / 255 - mean) / std).float()


def tiny(labels, n_classes, n_validation=4):
    """A dataset of random pixels with these labels."""
    generator = torch.Generator().manual_seed(0)

    def samples(labels):
        images = torch.randint(256, (len(labels), 1, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images=images, labels=labels, sample_ids=torch.arange(len(labels)))

    given = load(DatasetOptions(name="digits", subset=20), 0.5)
    return Dataset(
        name="tiny",
        classes=tuple(map(str, range(n_classes))),
        train=samples(torch.tensor(labels)),
        validation=samples(torch.zeros(n_validation, dtype=torch.int64)),
        columns=given.columns.iloc[:0],
        digest="",
    )


def test_a_record_comes_before_training_and_after_each_epoch(digits):
    records = [record for record, _ in train(digits)]
    assert [record.epoch for record in records] == [INIT, 0, 1, 2]
    per_epoch = {*REGIMENS["supervised"].signals}
    clean = {name for name in per_epoch if not name.endswith(".train")}
    assert records[0].signals.keys() == clean >= {*LOGIT_SIGNALS}
    for record in records[1:]:
        assert record.signals.keys() == per_epoch
    assert [{*record.snapshots} for record in records] == [
        set(),
        set(),
        set(),
        {*REGIMENS["supervised"].snapshots},
    ]
    for record in records:
        for name, values in record.signals.items():
            assert values.shape == (len(digits.train),)
            boolean = name in ("correct", "correct.train")
            assert values.dtype == (np.bool_ if boolean else np.float32)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_same_streams_give_the_same_bits(digits, schedule):
    chosen = options(**SCHEDULES[schedule])
    assert_same_bits(train(digits, chosen), train(digits, chosen))


@pytest.mark.parametrize("model", [MODEL, ModelOptions(name="mlp", width=16)], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, tmp_path, schedule, model):
    chosen = options(**SCHEDULES[schedule])
    whole = train(digits, chosen, model=model)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        rest = train(digits, chosen, model=model, resume=resume)
        assert_same_bits(rest, whole[record.epoch + 2 :])
        assert np.isnan(rest[0][0].signals["msd"]).all() == (record.epoch == INIT)


def test_nothing_follows_what_runs_between_the_epochs(digits):
    chosen = options()
    alone = train(digits, chosen)
    beside = supervised(digits, MODEL, chosen, Streams(seed=1))
    packed = []
    for record in supervised(digits, MODEL, chosen, SEEDED):
        packed.append((record, record.checkpoint()))
        next(beside)
        torch.rand(3)
    assert_same_bits(packed, alone)


def test_another_seed_or_salt_differs(digits):
    runs = [
        train(digits, options(max_epochs=1), streams)
        for streams in (SEEDED, Streams(seed=1), Streams(seed=0, salt="other"))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert differs(runs[one][0], runs[other][0])
        assert differs(runs[one][1], runs[other][1])


@pytest.mark.parametrize("purpose", ["weights", "order", "augmentation", "dropout"])
def test_one_varied_stream_is_enough_to_differ_and_only_weights_matter_before(digits, purpose):
    one, other = (
        train(digits, options(max_epochs=1), Streams(seed=seed, vary=(purpose,))) for seed in (0, 1)
    )
    assert differs(one[0], other[0]) == (purpose == "weights")
    assert differs(one[1], other[1])


def test_streams_without_a_use_leave_no_trace(digits):
    chosen = options(augmentation=Augmentation(), max_epochs=1)
    model = ModelOptions(name="small_cnn", width=4, dropout=0.0)
    one, other = (
        train(digits, chosen, Streams(seed=seed, vary=("augmentation", "dropout")), model)
        for seed in (0, 1)
    )
    assert_same_bits(one, other)


def test_recording_leaves_the_training_alone(digits):
    recorded = train(digits)
    bare = train(digits, recording=Recording(signals=False, snapshots=()))
    for (record, state), (full, full_state) in zip(bare, recorded, strict=True):
        assert not record.signals
        assert not record.snapshots
        assert without_seconds(record) == without_seconds(full)
        assert_same_state(state, full_state)


def test_signals_are_those_of_the_checkpointed_network(digits):
    whole = train(digits)
    x = seen_by_the_network(digits.train, digits.train)
    labels = digits.train.labels.tolist()
    previous = None
    for record, state in whole:
        network = restored(digits, state)
        with torch.inference_mode():
            emb = [network.encoder(image[None])[0].double().numpy() for image in x]
            logits = [network(image[None])[0].double().numpy() for image in x]
        expected = {name: [] for name in ("label_margin", "loss", "el2n", "correct", "energy")}
        for z, y in zip(logits, labels, strict=True):
            p = np.exp(z) / np.exp(z).sum()
            expected["label_margin"].append(z[y] - max(np.delete(z, y)))
            expected["loss"].append(-np.log(p[y]))
            expected["el2n"].append(np.sqrt(((p - np.eye(10)[y]) ** 2).sum()))
            expected["correct"].append(z.argmax() == y)
            expected["energy"].append(-np.log(np.exp(z).sum()))
        expected["feature_norm"] = [(z**2).mean() for z in emb]
        if record.epoch > 0:
            expected["msd"] = [
                ((z - before) ** 2).mean() for z, before in zip(emb, previous, strict=True)
            ]
        for name, values in expected.items():
            np.testing.assert_allclose(
                record.signals[name], values, rtol=2e-4, atol=2e-6, err_msg=name
            )
        previous = emb
    snapshots = whole[-1][0].snapshots
    np.testing.assert_allclose(snapshots["emb"], emb, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(snapshots["logits"], logits, rtol=1e-4, atol=1e-5)


def test_training_signals_are_those_of_the_presentation(digits):
    """One batch, nothing dropped, nothing augmented: the first weights in training mode."""
    model = ModelOptions(name="small_cnn", width=4, dropout=0.0)
    chosen = options(augmentation=Augmentation(), max_epochs=1, batch_size=len(digits.train))
    (_, init), (record, _) = train(digits, chosen, model=model)
    with torch.inference_mode():
        x = seen_by_the_network(digits.train, digits.train)
        logits = restored(digits, init, model).train()(x).double()
    y = digits.train.labels
    p_label = logits.softmax(1).gather(1, y[:, None])[:, 0]
    np.testing.assert_allclose(record.signals["p_label.train"], p_label, rtol=1e-4)
    np.testing.assert_array_equal(record.signals["correct.train"], logits.argmax(1) == y)
    assert record.summary["train_loss"] == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    assert not np.allclose(record.signals["p_label"], p_label, rtol=1e-2)


def test_an_augmentation_belongs_to_its_sample_wherever_the_order_puts_it(digits):
    """One batch: with the weights held, the order may change rounding alone."""
    model = ModelOptions(name="small_cnn", width=4, dropout=0.0)
    chosen = options(max_epochs=1, batch_size=len(digits.train))
    one, other = (
        train(digits, chosen, Streams(seed=seed, vary=("order",)), model)[1][0] for seed in (0, 1)
    )
    name = "label_margin.train"
    np.testing.assert_allclose(one.signals[name], other.signals[name], atol=1e-4)
    plain = train(digits, options(max_epochs=1, batch_size=200, augmentation=Augmentation()))
    assert not np.allclose(one.signals[name], plain[1][0].signals[name], atol=1e-2)


def test_the_summary_is_that_of_the_checkpointed_network(digits):
    record, state = train(digits)[-1]
    with torch.inference_mode():
        logits = restored(digits, state)(seen_by_the_network(digits.validation, digits.train))
    y = digits.validation.labels
    assert record.summary["val_accuracy"] == (logits.argmax(1) == y).double().mean().item()
    loss = cross_entropy(logits.double(), y).item()
    assert record.summary["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert record.summary["train_accuracy"] == record.signals["correct"].mean()
    assert record.summary["train_accuracy"] > 0.3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_the_summary_has_the_learning_rate_of_the_first_step(digits, monkeypatch, schedule):
    rates = []
    original = torch.optim.SGD.step

    def spy(self, *rest):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    records = [record for record, _ in train(digits, options(schedule=schedule))]
    steps = len(rates) // EPOCHS
    assert steps > 1
    assert [record.summary.get("lr") for record in records] == [None, *rates[::steps]]


def test_every_sample_is_presented_in_every_epoch(digits):
    for n, batch_size in ((200, 64), (193, 64), (65, 64), (64, 64)):
        rows = torch.arange(n)
        part = Dataset(
            name="digits",
            classes=digits.classes,
            train=digits.train.take(rows),
            validation=digits.validation,
            columns=digits.columns.iloc[:n],
            digest="",
        )
        for record, _ in train(part, options(max_epochs=2, batch_size=batch_size))[1:]:
            for name in ("p_label.train", "label_margin.train"):
                assert np.isfinite(record.signals[name]).all()
            assert (record.signals["p_label.train"] > 0).all()
            assert len(np.unique(record.signals["label_margin.train"])) == n


def test_displacement_has_no_value_at_first_and_is_no_norm_later(digits):
    """The published code kept zeros for the previous epoch: its displacement was the norm."""
    records = [record for record, _ in train(digits)]
    assert np.isnan(records[0].signals["msd"]).all()
    assert np.isnan(records[1].signals["msd"]).all()
    for record in records[2:]:
        assert (record.signals["msd"] > 0).all()
        assert not np.isclose(record.signals["msd"], record.signals["feature_norm"]).any()


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_that_leaves_the_finite_numbers_says_what_and_when(digits, name, optimizer):
    chosen = options(lr=1e6, optimizer=optimizer, schedule="constant", max_epochs=10)
    records = supervised(digits, ModelOptions(name=name), chosen, SEEDED)
    epochs = [next(records).epoch]
    with pytest.raises(Diverged) as raised:
        epochs.extend(record.epoch for record in records)
    found = re.fullmatch(
        r"the (training loss|sum of logits) became (nan|-?inf) in epoch (\d)", str(raised.value)
    )
    assert int(found[3]) == len(epochs) - 1


def test_a_last_step_that_leaves_the_finite_numbers_is_seen_in_the_logits(digits):
    """The loss of the only step was still finite."""
    chosen = options(lr=1e38, schedule="constant", max_epochs=1, batch_size=len(digits.train))
    with pytest.raises(Diverged, match="the sum of logits became nan in epoch 0"):
        train(digits, chosen, model=ModelOptions(name="mlp"))


@pytest.mark.parametrize("model", [MODEL, ModelOptions(name="mlp", width=8)], ids=str)
def test_a_single_sample_trains(model):
    records = [record for record, _ in train(tiny([3], 10), model=model)]
    assert [record.epoch for record in records] == [INIT, 0, 1, 2]
    assert np.isfinite(records[-1].signals["label_margin"]).all()
    assert records[-1].snapshots["neighbor_distances"].shape == (1, 0)


def test_a_single_class_trains_and_has_no_margin():
    record, _ = train(tiny([0] * 9, 1))[-1]
    assert (record.signals["loss"] == 0).all()
    assert record.signals["correct"].all()
    assert np.isnan(record.signals["label_margin"]).all()


def test_bf16_trains_to_other_bits_and_records_single_precision(digits):
    half, single = (
        train(digits, options(precision=precision, max_epochs=2 * EPOCHS))[-1]
        for precision in ("bf16", "f32")
    )
    assert differs(half, single)
    for name in ("loss", "label_margin", "label_margin.train", "msd"):
        assert half[0].signals[name].dtype == np.float32
        assert np.isfinite(half[0].signals[name]).all()
    assert half[0].summary["train_accuracy"] > 0.3


def test_the_global_generator_does_not_choose_the_run(digits):
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(train(digits, options(max_epochs=1)))
    assert_same_bits(*runs)
