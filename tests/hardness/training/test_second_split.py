"""Second-split training: two networks in step, each half forgotten by the one that saw it first."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hardness.data.datasets import Dataset, load
from hardness.data.options import DatasetOptions
from hardness.data.source import Samples
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Diverged, Recording
from hardness.metrics.second_split import ssft
from hardness.models.networks import build
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.training import REGIMENS, loop
from hardness.training.folds import deal
from hardness.training.optimization import batches, learning_rate, optimizer
from hardness.training.options import SecondSplit, TrainOptions
from hardness.training.second_split import second_split
from tests.trainings import (
    AUGMENTED,
    SCHEDULES,
    assert_same_bits,
    assert_same_tensors,
    few_digits,
    with_checkpoints,
    without_seconds,
)

SEEDED = Streams(seed=0)
MODEL = ModelOptions(name="small_cnn", width=4)
PLAIN = ModelOptions(name="small_cnn", width=4, dropout=0.0)
FIRST, SECOND = 2, 3


@pytest.fixture(scope="module")
def digits():
    return few_digits()


def options(*, augmentation=AUGMENTED, split_seed=0, **train):
    defaults = {"max_epochs": FIRST, "batch_size": 32, "lr": 0.1}
    return SecondSplit(
        train=TrainOptions(**defaults | train),
        second_epochs=SECOND,
        augmentation=augmentation,
        split_seed=split_seed,
    )


def train(dataset, chosen=None, streams=SEEDED, model=MODEL, **arguments):
    """Records of a training, each with the checkpoint that was there when it came."""
    chosen = options() if chosen is None else chosen
    return with_checkpoints(second_split(dataset, model, chosen, streams, **arguments))


def part(state, network, prefix="module"):
    """Tensors of one of the two networks."""
    start = f"{prefix}.{network}."
    return {k.removeprefix(start): v for k, v in state.tensors.items() if k.startswith(start)}


def restored(dataset, state, network, model=MODEL):
    """One of a checkpoint's networks."""
    found = fresh(dataset, model, Streams(seed=99))
    found.load_state_dict(part(state, network))
    return found


def fresh(dataset, model, streams):
    shape = tuple(dataset.train.images.shape[1:])
    return build(model, image_shape=shape, n_classes=len(dataset.classes), streams=streams)


def normalised(samples, of):
    """Images normalised with the moments of the training images, by hand."""
    unit = of.images.double() / 255
    mean = unit.mean((0, 2, 3), keepdim=True)
    std = unit.std((0, 2, 3), correction=0, keepdim=True)
    return ((samples.images.double() / 255 - mean) / std).float()


def with_labels(dataset, labels):
    return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=labels))


def tiny(labels, n_classes):
    """A dataset of random pixels with these labels."""
    generator = torch.Generator().manual_seed(0)
    n = len(labels)
    images = torch.randint(256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    samples = Samples(images=images, labels=torch.tensor(labels), sample_ids=torch.arange(n))
    given_columns = load(DatasetOptions(name="digits", subset=20), 0.5).columns
    return Dataset(
        name="tiny",
        classes=tuple(map(str, range(n_classes))),
        train=samples,
        validation=samples,
        columns=given_columns.iloc[:0],
        digest="",
    )


def test_the_split_follows_its_own_seed_alone(digits):
    splits = [
        train(digits, options(split_seed=split), Streams(seed=seed))[-1][0].snapshots["fold"]
        for split, seed in ((0, 0), (0, 1), (1, 0))
    ]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()
    np.testing.assert_array_equal(splits[0], deal(digits.train.labels, 2, 0))


def test_each_stage_records_its_own_signal_and_the_last_epoch_the_fold(digits):
    records = [record for record, _ in train(digits)]
    assert [record.epoch for record in records] == [INIT, *range(FIRST + SECOND)]
    assert options().epochs == FIRST + SECOND
    stages = [[], *[["correct_first_split"]] * FIRST, *[["correct_second_split"]] * SECOND]
    assert [[*record.signals] for record in records] == stages
    assert {*REGIMENS["second_split"].signals} == {name for stage in stages for name in stage}
    for record in records[1:]:
        (values,) = record.signals.values()
        assert values.dtype == np.bool_
        assert values.shape == (len(digits.train),)
    assert [[*record.snapshots] for record in records] == [[]] * (FIRST + SECOND) + [["fold"]]
    assert records[-1].snapshots["fold"].dtype == np.int32


def test_recording_leaves_the_training_and_the_fold_alone(digits):
    bare = train(digits, recording=Recording(signals=False, snapshots=()))
    for (record, state), (full, full_state) in zip(bare, train(digits), strict=True):
        assert not record.signals
        assert record.snapshots.keys() == full.snapshots.keys()
        assert without_seconds(record) == without_seconds(full)
        assert_same_tensors(state.tensors, full_state.tensors)


def test_a_sample_is_evaluated_by_the_network_that_saw_it_first(digits):
    whole = train(digits)
    fold = whole[-1][0].snapshots["fold"]
    x, y = normalised(digits.train, digits.train), digits.train.labels
    for record, state in whole[1:]:
        (values,) = record.signals.values()
        with torch.inference_mode():
            right = [
                restored(digits, state, network).eval()(x).argmax(1) == y for network in (0, 1)
            ]
        expected = np.where(fold == 0, right[0], right[1])
        assert (values == expected).mean() > 0.99  # rounding may decide a tie
        assert (right[0] != right[1]).any()


def test_the_networks_train_on_one_half_and_then_on_the_other(digits, monkeypatch):
    """The rows that each network is shown, stage by stage."""
    shown = []
    original = loop.train_epoch

    def spy(forward, optim, learner, order, *rest, **stage):
        shown.append((stage["epoch"], stage["epochs"], order.clone()))
        return original(forward, optim, learner, order, *rest, **stage)

    monkeypatch.setattr(loop, "train_epoch", spy)
    fold = torch.from_numpy(train(digits)[-1][0].snapshots["fold"])
    assert len(shown) == 2 * (FIRST + SECOND)
    for call, (epoch, epochs, order) in enumerate(shown):
        network, lap = call % 2, call // 2
        second = lap >= FIRST
        assert (epoch, epochs) == ((lap - FIRST, SECOND) if second else (lap, FIRST))
        half = 1 - network if second else network
        assert order.sort().values.equal((fold == half).nonzero()[:, 0])


def test_one_network_trains_as_by_a_plain_loop(digits):
    """Half A then half B, momentum and schedule from the start at the switch."""
    chosen = options(augmentation=Augmentation(), **SCHEDULES["sgd and one_cycle"])
    whole = train(digits, chosen, model=PLAIN)
    fold = deal(digits.train.labels, 2, 0)
    x, y = normalised(digits.train, digits.train), digits.train.labels
    for network in (0, 1):
        alone = fresh(digits, PLAIN, SEEDED)
        epoch = 0
        for half, epochs in ((network, FIRST), (1 - network, SECOND)):
            optim, step = optimizer(alone, chosen.train), 0
            for _ in range(epochs):
                order = torch.randperm(len(y), generator=SEEDED.generator("order", epoch))
                shown = batches(order[fold[order] == half], chosen.train.batch_size)
                for batch in shown:
                    rate = learning_rate(step, epochs * len(shown), chosen.train)
                    optim.param_groups[0]["lr"] = rate
                    optim.zero_grad()
                    cross_entropy(alone.train()(x[batch]), y[batch]).backward()
                    optim.step()
                    step += 1
                found = part(whole[epoch + 1][1], network)
                for name, tensor in alone.state_dict().items():
                    torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4)
                epoch += 1


def test_both_networks_start_from_the_same_weights_and_come_apart(digits):
    whole = train(digits)
    assert_same_tensors(part(whole[0][1], 0), part(whole[0][1], 1))
    first, second = part(whole[1][1], 0), part(whole[1][1], 1)
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_network_that_does_not_train_stays_as_it_is(digits, monkeypatch, schedule):
    """Neither momentum nor weight decay touches it, nor do running statistics."""
    original = loop.train_epoch
    networks = []
    calls = []

    def keep(*arguments, **named):
        networks.append(build(*arguments, **named))
        return networks[-1]

    monkeypatch.setattr(loop, "build", keep)

    def spy(forward, *rest, **options):
        (idle,) = (n for n in networks if n is not forward)
        before = {k: v.clone() for k, v in idle.state_dict().items()}
        found = original(forward, *rest, **options)
        assert_same_tensors(idle.state_dict(), before)
        calls.append(forward)
        return found

    monkeypatch.setattr(loop, "train_epoch", spy)
    train(digits, options(weight_decay=0.1, **SCHEDULES[schedule]))
    assert [call is networks[0] for call in calls] == [True, False] * (FIRST + SECOND)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_switch_starts_a_fresh_optimizer_and_schedule(digits, monkeypatch, schedule):
    seen = []
    original = loop.train_epoch

    def spy(forward, optim, *rest, **options):
        before = len(optim.state)
        found = original(forward, optim, *rest, **options)
        seen.append((before, optim))
        return found

    monkeypatch.setattr(loop, "train_epoch", spy)
    train(digits, options(**SCHEDULES[schedule]))
    used = [(before, seen.index(next(s for s in seen if s[1] is optim))) for before, optim in seen]
    parameters = len([*fresh(digits, MODEL, SEEDED).parameters()])
    start = 2 * FIRST
    for call, (before, first_use) in enumerate(used):
        since = call - (start if call >= start else 0)
        assert first_use == (start if call >= start else 0)
        assert before == parameters * min(since, 2)


def test_the_learning_rate_starts_again_at_the_switch(digits, monkeypatch):
    rates = []
    original = torch.optim.SGD.step

    def spy(self, *rest):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    records = train(digits, options(schedule="cosine"))
    a_lap = len(batches(torch.arange(len(digits.train) // 2), 32))
    laps = [rates[start : start + a_lap] for start in range(0, len(rates), a_lap)]
    assert len(laps) == 2 * (FIRST + SECOND)
    assert laps[0::2] == laps[1::2]
    assert [record.summary["lr"] for record, _ in records[1:]] == [lap[0] for lap in laps[::2]]
    for stage in (laps[: 2 * FIRST : 2], laps[2 * FIRST :: 2]):
        flat = [rate for lap in stage for rate in lap]
        assert flat[0] == 0.1
        assert flat == sorted(flat, reverse=True)
        assert flat[-1] < 0.02


@pytest.mark.parametrize("model", [MODEL, ModelOptions(name="mlp", width=16)], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, tmp_path, schedule, model):
    chosen = options(**SCHEDULES[schedule])
    whole = train(digits, chosen, model=model)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        rest = train(digits, chosen, model=model, resume=resume)
        assert_same_bits(rest, whole[record.epoch + 2 :])


def test_nothing_follows_what_runs_between_the_epochs(digits):
    alone = train(digits)
    beside = second_split(digits, MODEL, options(), Streams(seed=1))
    packed = []
    for record in second_split(digits, MODEL, options(), SEEDED):
        packed.append((record, record.checkpoint()))
        next(beside)
        torch.rand(3)
    assert_same_bits(packed, alone)


@pytest.mark.parametrize("purpose", ["weights", "order", "augmentation", "dropout"])
def test_one_varied_stream_is_enough_to_differ(digits, purpose):
    one, other = (train(digits, streams=Streams(seed=s, vary=(purpose,))) for s in (0, 1))
    weights = [part(run[1][1], 0) for run in (one, other)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_summary_is_of_the_presentations_and_the_mean_of_both_networks(digits):
    """One batch a half, nothing dropped, nothing augmented: the first weights in training mode."""
    chosen = options(augmentation=Augmentation(), batch_size=len(digits.train), max_epochs=1)
    (_, init), (record, state), *_ = train(digits, chosen, model=PLAIN)
    fold = deal(digits.train.labels, 2, 0)
    x, y = normalised(digits.train, digits.train), digits.train.labels
    with torch.no_grad():
        logits = torch.empty(len(y), 10)
        for half in (0, 1):
            logits[fold == half] = restored(digits, init, half, PLAIN).train()(x[fold == half])
        v, labels = normalised(digits.validation, digits.train), digits.validation.labels
        outputs = [restored(digits, state, n, PLAIN).eval()(v) for n in (0, 1)]
    sizes = [(fold == half).sum().item() for half in (0, 1)]
    losses = [cross_entropy(logits[fold == h], y[fold == h]).item() * sizes[h] for h in (0, 1)]
    assert record.summary["train_loss"] == pytest.approx(sum(losses) / len(y), rel=1e-4)
    hits = (logits.argmax(1) == y).double().mean().item()
    assert record.summary["train_accuracy"] == pytest.approx(hits, abs=0.006)
    val_loss = np.mean([cross_entropy(o, labels).item() for o in outputs])
    assert record.summary["val_loss"] == pytest.approx(val_loss, rel=1e-4)
    val_accuracy = np.mean([(o.argmax(1) == labels).double().mean().item() for o in outputs])
    assert record.summary["val_accuracy"] == pytest.approx(val_accuracy)


def test_mislabeled_samples_are_forgotten_first_and_every_sample_has_a_score():
    dataset = load(DatasetOptions(name="digits", subset=600), 0.2)
    n, planted = len(dataset.train), 48
    rng = np.random.default_rng(0)
    wrong = np.zeros(n, dtype=bool)
    wrong[rng.choice(n, planted, replace=False)] = True
    labels = dataset.train.labels.clone()
    labels[wrong] = (labels[wrong] + torch.from_numpy(rng.integers(1, 10, planted))) % 10
    chosen = SecondSplit(
        train=TrainOptions(max_epochs=20, batch_size=32, weight_decay=0.0), second_epochs=8
    )
    model = ModelOptions(name="small_cnn", width=8, dropout=0.0)
    *records, last = second_split(with_labels(dataset, labels), model, chosen, SEEDED)
    records = [*records[1:], last]
    first, second = (
        np.stack([r.signals[name] for r in records if name in r.signals])
        for name in ("correct_first_split", "correct_second_split")
    )
    times = ssft(second)
    assert np.isfinite(times).all()
    learned = ssft(second, first_split=first, learned_only=True)
    for half in (0, 1):
        mine = last.snapshots["fold"] == half
        assert first[-1][mine & wrong].mean() > 0.8
        for scores in (times, learned):
            assert np.nanmean(scores[mine & wrong]) < 4
            assert np.nanmean(scores[mine & ~wrong]) > 7


@pytest.mark.parametrize("labels", [[0, 1], [0, 0], [0] * 9, [0, 1, 2]])
def test_few_samples_train(labels):
    records = [record for record, _ in train(tiny(labels, 3))]
    assert len(records) == 1 + FIRST + SECOND
    assert {*records[-1].snapshots["fold"].tolist()} == {0, 1}


def test_one_sample_cannot_be_split():
    with pytest.raises(ValueError, match="expected at least 2 samples to split; got 1"):
        train(tiny([0], 2))


def test_the_second_stage_has_an_epoch():
    with pytest.raises(ValueError, match="second_epochs: expected at least 1; got 0"):
        SecondSplit(second_epochs=0)


def test_a_training_that_leaves_the_finite_numbers_says_what_and_when(digits):
    chosen = options(lr=1e6, schedule="constant")
    records = second_split(digits, ModelOptions(name="mlp"), chosen, SEEDED)
    epochs = [next(records).epoch]
    with pytest.raises(Diverged) as raised:
        epochs.extend(record.epoch for record in records)
    assert str(raised.value).endswith(f"in epoch {len(epochs) - 1}")
