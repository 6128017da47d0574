"""Cross-fitting: networks in step, each sample scored by the one that never saw it."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from hardness.data.datasets import Dataset, load
from hardness.data.options import DatasetOptions
from hardness.data.source import Samples
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Diverged, Recording
from hardness.metrics.holdout import irreducible_loss, rho_loss
from hardness.metrics.label_quality import label_quality_self_confidence
from hardness.metrics.loss import mean_loss
from hardness.models.networks import build
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.signals import gradients as gradient_signals
from hardness.signals.names import LOGIT_SIGNALS
from hardness.training import REGIMENS, loop
from hardness.training.cross_fit import cross_fit
from hardness.training.folds import deal
from hardness.training.optimization import batches, learning_rate, optimizer
from hardness.training.options import CrossFit, SecondSplit, TrainOptions
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
EPOCHS = 3
# Validation losses of two networks, epoch by epoch: a best that is past, and equal ones.
VALIDATION = ((3.0, 5.0), (1.0, 4.0), (2.0, 4.0), (1.0, 3.0), (1.5, 6.0))
BEST = np.array([1, 3])
PASSES = Recording(passes=("odin", "mc_dropout"))


@pytest.fixture(scope="module")
def digits():
    return few_digits()


def options(*, folds=2, augmentation=AUGMENTED, split_seed=0, **train):
    defaults = {"max_epochs": EPOCHS, "batch_size": 32, "lr": 0.1}
    return CrossFit(
        folds=folds,
        train=TrainOptions(**defaults | train),
        augmentation=augmentation,
        split_seed=split_seed,
    )


def train(dataset, chosen=None, streams=SEEDED, model=MODEL, **arguments):
    """Records of a training, each with the checkpoint that was there when it came."""
    chosen = options() if chosen is None else chosen
    return with_checkpoints(cross_fit(dataset, model, chosen, streams, **arguments))


def part(state, network, prefix="module"):
    """Tensors of one of the networks."""
    start = f"{prefix}.{network}."
    return {k.removeprefix(start): v for k, v in state.tensors.items() if k.startswith(start)}


def fresh(dataset, model, streams):
    shape = tuple(dataset.train.images.shape[1:])
    return build(model, image_shape=shape, n_classes=len(dataset.classes), streams=streams)


def restored(dataset, state, network, model=MODEL):
    """One of a checkpoint's networks, in eval mode."""
    found = fresh(dataset, model, Streams(seed=99))
    found.load_state_dict(part(state, network))
    return found.eval()


def normalised(samples, of):
    """Images normalised with the moments of the training images, by hand."""
    unit = of.images.double() / 255
    mean = unit.mean((0, 2, 3), keepdim=True)
    std = unit.std((0, 2, 3), correction=0, keepdim=True)
    return ((samples.images.double() / 255 - mean) / std).float()


def by_hand(dataset, state, folds):
    """Logits ``[networks, samples, classes]`` and embeddings of a checkpoint, float64."""
    x = normalised(dataset.train, dataset.train)
    networks = [restored(dataset, state, one) for one in range(folds)]
    with torch.inference_mode():
        emb = torch.stack([network.encoder(x) for network in networks])
        logits = torch.stack([n.head(z) for n, z in zip(networks, emb, strict=True)])
    return logits.double(), emb.double()


def validation_losses(dataset, state, folds):
    v, y = normalised(dataset.validation, dataset.train), dataset.validation.labels
    with torch.inference_mode():
        return [
            cross_entropy(restored(dataset, state, one)(v).double(), y).item()
            for one in range(folds)
        ]


def tiny(labels, n_classes, n_validation=4):
    """A dataset of random pixels with these labels."""
    generator = torch.Generator().manual_seed(0)

    def samples(labels):
        images = torch.randint(256, (len(labels), 1, 8, 8), generator=generator, dtype=torch.uint8)
        return Samples(images=images, labels=labels, sample_ids=torch.arange(len(labels)))

    return Dataset(
        name="tiny",
        classes=tuple(map(str, range(n_classes))),
        train=samples(torch.tensor(labels)),
        validation=samples(torch.zeros(n_validation, dtype=torch.int64)),
        columns=load(DatasetOptions(name="digits", subset=20), 0.5).columns.iloc[:0],
        digest="",
    )


@pytest.mark.parametrize("folds", [2, 3])
def test_every_epoch_records_every_signal_and_the_last_the_snapshots(digits, folds):
    records = [record for record, _ in train(digits, options(folds=folds), recording=PASSES)]
    assert [record.epoch for record in records] == [INIT, *range(EPOCHS)]
    assert options().epochs == EPOCHS
    regimen, n = REGIMENS["cross_fit"], len(digits.train)
    always = {*regimen.signals}
    assert always == {*LOGIT_SIGNALS, "gradnorm", "own_loss"}
    of_passes = {name for one in regimen.passes.values() for name in one.signals}
    assert of_passes == {"odin", "odin.unperturbed", "mc_dropout_entropy", "mc_dropout_bald"}
    assert [{*record.signals} for record in records] == [
        set(),
        always,
        always,
        always | of_passes,
    ]
    wide = {"odin": np.float64, "odin.unperturbed": np.float64, "correct": np.bool_}
    for record in records[1:]:
        for name, values in record.signals.items():
            assert values.shape == (n,)
            assert values.dtype == wide.get(name, np.float32), name
            assert np.isfinite(values).all()
    assert [{*record.snapshots} for record in records[:-1]] == [set()] * EPOCHS
    kept = records[-1].snapshots
    assert {*kept} == {*regimen.snapshots}
    assert (kept["fold"].dtype, kept["fold"].shape) == (np.int32, (n,))
    assert {*kept["fold"].tolist()} == {*range(folds)}
    assert (kept["holdout_probs"].dtype, kept["holdout_probs"].shape) == (np.float64, (n, 10))
    assert (kept["holdout_loss"].dtype, kept["holdout_loss"].shape) == (np.float32, (n,))


def test_the_folds_follow_their_own_seed_alone(digits):
    chosen = [
        train(digits, options(split_seed=split, max_epochs=1), Streams(seed=seed))
        for split, seed in ((0, 0), (0, 1), (1, 0))
    ]
    splits = [run[-1][0].snapshots["fold"] for run in chosen]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()
    np.testing.assert_array_equal(splits[0], deal(digits.train.labels, 2, 0))


@pytest.mark.parametrize("folds", [2, 3])
def test_a_network_never_sees_its_fold_and_sees_all_others(digits, monkeypatch, folds):
    shown = []
    original = loop.train_epoch

    def spy(forward, optim, learner, order, *rest, **stage):
        shown.append((stage["epoch"], stage["epochs"], order.clone()))
        return original(forward, optim, learner, order, *rest, **stage)

    monkeypatch.setattr(loop, "train_epoch", spy)
    fold = torch.from_numpy(train(digits, options(folds=folds))[-1][0].snapshots["fold"])
    assert len(shown) == folds * EPOCHS
    for call, (epoch, epochs, order) in enumerate(shown):
        assert (epoch, epochs) == (call // folds, EPOCHS)
        assert order.sort().values.equal((fold != call % folds).nonzero()[:, 0])


def test_one_network_of_three_trains_as_by_a_plain_loop(digits):
    chosen = options(folds=3, augmentation=Augmentation(), **SCHEDULES["sgd and one_cycle"])
    whole = train(digits, chosen, model=PLAIN)
    fold = deal(digits.train.labels, 3, 0)
    x, y = normalised(digits.train, digits.train), digits.train.labels
    for network in (0, 2):
        alone = fresh(digits, PLAIN, SEEDED)
        optim, step = optimizer(alone, chosen.train), 0
        for epoch in range(EPOCHS):
            order = torch.randperm(len(y), generator=SEEDED.generator("order", epoch))
            shown = batches(order[fold[order] != network], chosen.train.batch_size)
            for batch in shown:
                rate = learning_rate(step, EPOCHS * len(shown), chosen.train)
                optim.param_groups[0]["lr"] = rate
                optim.zero_grad()
                cross_entropy(alone.train()(x[batch]), y[batch]).backward()
                optim.step()
                step += 1
            found = part(whole[epoch + 1][1], network)
            for name, tensor in alone.state_dict().items():
                torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4)


def test_two_folds_train_as_the_first_stage_of_a_second_split(digits):
    """The same two networks to the bit, named after the half that they leave out."""
    chosen = options()
    splitting = SecondSplit(train=chosen.train, second_epochs=1, augmentation=AUGMENTED)
    for record, other in zip(
        cross_fit(digits, MODEL, chosen, SEEDED),
        second_split(digits, MODEL, splitting, SEEDED),
        strict=False,
    ):
        for network in (0, 1):
            mine = part(record.checkpoint(), network)
            assert_same_tensors(mine, part(other.checkpoint(), 1 - network))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_networks_that_do_not_train_stay_as_they_are(digits, monkeypatch, schedule):
    """Neither momentum nor weight decay touches them, nor do running statistics."""
    original, build_one = loop.train_epoch, build
    networks, calls = [], []

    def keep(*arguments, **named):
        networks.append(build_one(*arguments, **named))
        return networks[-1]

    def spy(forward, *rest, **options):
        idle = [n for n in networks if n is not forward]
        before = [{k: v.clone() for k, v in n.state_dict().items()} for n in idle]
        found = original(forward, *rest, **options)
        for network, state in zip(idle, before, strict=True):
            assert_same_tensors(network.state_dict(), state)
        calls.append(networks.index(forward))
        return found

    monkeypatch.setattr(loop, "build", keep)
    monkeypatch.setattr(loop, "train_epoch", spy)
    train(digits, options(folds=3, weight_decay=0.1, **SCHEDULES[schedule]))
    assert calls == [0, 1, 2] * EPOCHS


def test_networks_start_from_the_same_weights_and_come_apart(digits):
    whole = train(digits, options(folds=3))
    for other in (1, 2):
        assert_same_tensors(part(whole[0][1], 0), part(whole[0][1], other))
        one, two = part(whole[1][1], 0), part(whole[1][1], other)
        assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("folds", [2, 3])
def test_signals_are_those_of_the_network_that_never_saw_the_sample(digits, folds):
    fold = deal(digits.train.labels, folds, 0)
    each, y = torch.arange(len(fold)), digits.train.labels
    for record, state in train(digits, options(folds=folds))[1:]:
        logits, emb = by_hand(digits, state, folds)
        p = logits.softmax(2)
        held_out, inside = p[fold, each], p[(fold + 1) % folds, each]
        p_label = held_out[each, y]
        expected = {
            "p_label": p_label,
            "loss": -p_label.log(),
            "correct": held_out.argmax(1) == y,
            "entropy": -(held_out * held_out.log()).sum(1),
            "max_softmax": held_out.amax(1),
            "energy": -logits[fold, each].logsumexp(1),
            "el2n": (held_out - torch.eye(10)[y]).norm(dim=1),
            "gradnorm": emb[fold, each].abs().sum(1) * (10 * held_out - 1).abs().sum(1),
            "own_loss": -inside[each, y].log(),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(
                record.signals[name], values, rtol=2e-4, atol=2e-5, err_msg=name
            )
        assert not np.allclose(record.signals["own_loss"], record.signals["loss"], rtol=1e-2)
    np.testing.assert_allclose(record.snapshots["holdout_probs"], held_out, rtol=1e-4, atol=1e-7)
    total = record.snapshots["holdout_probs"].sum(axis=1)
    np.testing.assert_allclose(total, 1, rtol=1e-14)
    # The network of own_loss has been trained on the sample.
    assert ((fold + 1) % folds != fold).all()


def test_scoring_passes_are_made_by_the_network_that_never_saw_the_sample(digits):
    record, state = train(digits, options(folds=3), recording=PASSES)[-1]
    fold = deal(digits.train.labels, 3, 0)
    pixels = digits.train.images.double() / 255
    mean, std = pixels.mean(), pixels.std(correction=0)

    def odin(network, rows):
        network = restored(digits, state, network)
        unit = pixels[rows].float()
        return gradient_signals.odin_from_model(lambda x: network(((x - mean) / std).float()), unit)

    for one in range(3):
        mine = fold == one
        found = record.signals["odin"][mine]
        np.testing.assert_allclose(found, odin(one, mine), rtol=1e-7)
        assert not np.allclose(found, odin((one + 1) % 3, mine), rtol=1e-7)
    assert (record.signals["mc_dropout_bald"] > 0).all()
    # Dropout blurs the out-of-fold prediction and does not replace it.
    blurred = record.signals["mc_dropout_entropy"]
    assert np.corrcoef(blurred, record.signals["entropy"])[0, 1] > 0.8


def test_passes_run_in_the_epochs_that_are_asked_for(digits):
    asked = Recording(passes=("odin", "grand", "vog"), score_epochs=(0,))
    records = [record for record, _ in train(digits, recording=asked)]
    assert ["odin" in record.signals for record in records] == [False, True, False, False]
    assert not any({"grand", "vog"} & {*record.signals} for record in records)
    with pytest.raises(ValueError, match="score_epochs: expected epochs from -3 to 2; got 7"):
        train(digits, recording=dataclasses.replace(asked, score_epochs=(7,)))


@pytest.mark.parametrize("folds", [2, 3])
def test_the_holdout_loss_is_of_the_epoch_with_the_lowest_validation_loss(digits, folds):
    whole = train(digits, options(folds=folds, lr=0.3, schedule="constant", max_epochs=6))
    fold = deal(digits.train.labels, folds, 0).numpy()
    losses = np.array([validation_losses(digits, state, folds) for _, state in whole[1:]])
    recorded = np.stack([record.signals["loss"] for record, _ in whole[1:]])
    expected = recorded[losses.argmin(axis=0)[fold], np.arange(len(fold))]
    np.testing.assert_array_equal(whole[-1][0].snapshots["holdout_loss"], expected)
    np.testing.assert_allclose(whole[-1][1].carried()["val_loss"], losses.min(axis=0), rtol=1e-4)


def scripted(monkeypatch, first=0):
    """Have the two networks validate as ``VALIDATION`` says, from this epoch on."""
    from hardness.training import cross_fit as regimen

    found = (loss for epoch in VALIDATION[first:] for loss in epoch)
    monkeypatch.setattr(
        regimen, "validate", lambda *_: {"val_loss": next(found), "val_accuracy": 0.5}
    )


def test_of_equally_good_epochs_each_network_keeps_its_first(digits, monkeypatch):
    scripted(monkeypatch)
    whole = train(digits, options(max_epochs=len(VALIDATION)))
    fold = deal(digits.train.labels, 2, 0).numpy()
    recorded = np.stack([record.signals["loss"] for record, _ in whole[1:]])
    expected = recorded[BEST[fold], np.arange(len(fold))]
    np.testing.assert_array_equal(whole[-1][0].snapshots["holdout_loss"], expected)
    assert (recorded[-1] != expected).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_best_validation_that_is_past_survives_a_break(digits, monkeypatch, tmp_path, schedule):
    """A break before, at and after the epoch in which one network alone is at its best."""
    chosen = options(max_epochs=len(VALIDATION), **SCHEDULES[schedule])
    scripted(monkeypatch)
    whole = train(digits, chosen)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        scripted(monkeypatch, record.epoch + 1)
        assert_same_bits(train(digits, chosen, resume=resume), whole[record.epoch + 2 :])


def test_the_validation_samples_choose_the_epoch_and_nothing_else(digits):
    """Trained and scored on the same samples, the two runs differ in ``holdout_loss`` alone."""
    flipped = dataclasses.replace(digits.validation, labels=digits.validation.labels.flip(0))
    other = dataclasses.replace(digits, validation=flipped)
    # With the labels flipped the loss rises with every epoch.
    chosen = options(lr=0.05, max_epochs=8)
    (one, _), (two, _) = (train(dataset, chosen)[-1] for dataset in (digits, other))
    for name, values in one.signals.items():
        assert values.tobytes() == two.signals[name].tobytes()
    assert one.snapshots["holdout_loss"].mean() < two.snapshots["holdout_loss"].mean()


@pytest.mark.parametrize("model", [MODEL, ModelOptions(name="mlp", width=16)], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, tmp_path, schedule, model):
    chosen = options(folds=3, **SCHEDULES[schedule])
    whole = train(digits, chosen, model=model, recording=PASSES)
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        rest = train(digits, chosen, model=model, recording=PASSES, resume=resume)
        assert_same_bits(rest, whole[record.epoch + 2 :])


def test_nothing_follows_what_runs_between_the_epochs(digits):
    alone = train(digits, recording=PASSES)
    beside = cross_fit(digits, MODEL, options(), Streams(seed=1), recording=PASSES)
    packed = []
    for record in cross_fit(digits, MODEL, options(), SEEDED, recording=PASSES):
        packed.append((record, record.checkpoint()))
        next(beside)
        torch.rand(3)
    assert_same_bits(packed, alone)


def test_recording_leaves_the_training_and_the_holdout_alone(digits):
    bare = train(digits, recording=Recording(signals=False, snapshots=(), passes=PASSES.passes))
    for (record, state), (full, full_state) in zip(
        bare, train(digits, recording=PASSES), strict=True
    ):
        assert not record.signals
        assert {*full.snapshots} - {*record.snapshots} <= {"holdout_probs"}
        for name, values in record.snapshots.items():
            assert values.tobytes() == full.snapshots[name].tobytes()
        assert without_seconds(record) == without_seconds(full)
        assert_same_tensors(state.tensors, full_state.tensors)
    assert {*record.snapshots} == {"fold", "holdout_loss"}


@pytest.mark.parametrize("purpose", ["weights", "order", "augmentation", "dropout"])
def test_one_varied_stream_is_enough_to_differ(digits, purpose):
    one, other = (
        train(digits, options(max_epochs=1), Streams(seed=s, vary=(purpose,))) for s in (0, 1)
    )
    for network in (0, 1):
        weights = [part(run[1][1], network) for run in (one, other)]
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert one[1][0].signals["loss"].tobytes() != other[1][0].signals["loss"].tobytes()


def test_the_summary_is_of_the_presentations_and_the_mean_of_the_networks(digits):
    """One batch a network, nothing dropped, nothing augmented: the first weights in train mode."""
    chosen = options(
        folds=3, augmentation=Augmentation(), batch_size=len(digits.train), max_epochs=1
    )
    (_, init), (record, state) = train(digits, chosen, model=PLAIN)
    fold = deal(digits.train.labels, 3, 0)
    x, y = normalised(digits.train, digits.train), digits.train.labels
    with torch.no_grad():
        shown = [fold != one for one in range(3)]
        first = restored(digits, init, 0, PLAIN).train()
        logits = torch.cat([first(x[rows]) for rows in shown])
        v, labels = normalised(digits.validation, digits.train), digits.validation.labels
        outputs = [restored(digits, state, one, PLAIN)(v) for one in range(3)]
    presented = torch.cat([y[rows] for rows in shown])
    assert len(presented) == 2 * len(y)
    loss = cross_entropy(logits, presented).item()
    assert record.summary["train_loss"] == pytest.approx(loss, rel=1e-2)
    hits = (logits.argmax(1) == presented).double().mean().item()
    assert record.summary["train_accuracy"] == pytest.approx(hits, abs=0.006)
    val_loss = np.mean([cross_entropy(o, labels).item() for o in outputs])
    assert record.summary["val_loss"] == pytest.approx(val_loss, rel=1e-4)
    val_accuracy = np.mean([(o.argmax(1) == labels).double().mean().item() for o in outputs])
    assert record.summary["val_accuracy"] == pytest.approx(val_accuracy)


def test_mislabeled_samples_are_irreducible_and_of_little_use():
    dataset = load(DatasetOptions(name="digits", subset=600), 0.2)
    n, planted = len(dataset.train), 48
    rng = np.random.default_rng(0)
    wrong = np.zeros(n, dtype=bool)
    wrong[rng.choice(n, planted, replace=False)] = True
    labels = dataset.train.labels.clone()
    labels[wrong] = (labels[wrong] + torch.from_numpy(rng.integers(1, 10, planted))) % 10
    spoiled = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=labels))
    chosen = CrossFit(train=TrainOptions(max_epochs=15, batch_size=32))
    model = ModelOptions(name="small_cnn", width=8)
    records = [*cross_fit(spoiled, model, chosen, SEEDED)][1:]
    own, loss = (np.stack([r.signals[name] for r in records]) for name in ("own_loss", "loss"))
    kept = records[-1].snapshots
    quality = label_quality_self_confidence(kept["holdout_probs"], labels.numpy())
    for hardness in (-quality, irreducible_loss(kept["holdout_loss"]), mean_loss(loss)):
        assert roc_auc_score(wrong, hardness) > 0.95
    assert roc_auc_score(wrong, rho_loss(own, kept["holdout_loss"])) < 0.3
    # Random labels of other samples say nothing of which of these are wrong: no label leaks.
    for name in ("max_softmax", "entropy", "gradnorm"):
        assert abs(roc_auc_score(wrong, records[-1].signals[name]) - 0.5) < 0.12


@pytest.mark.parametrize(
    ("labels", "folds"), [([0, 1], 2), ([0, 0], 2), ([0] * 9, 9), ([0, 1, 2], 3), ([0, 1, 2], 2)]
)
def test_few_samples_train(labels, folds):
    records = [record for record, _ in train(tiny(labels, 3), options(folds=folds))]
    assert len(records) == 1 + EPOCHS
    assert {*records[-1].snapshots["fold"].tolist()} == {*range(folds)}
    for values in (records[-1].signals["loss"], records[-1].snapshots["holdout_loss"]):
        assert np.isfinite(values).all()


def test_a_single_class_trains_and_loses_nothing():
    record, _ = train(tiny([0] * 9, 1), options(folds=3))[-1]
    assert (record.signals["loss"] == 0).all()
    assert (record.snapshots["holdout_probs"] == 1).all()
    assert (record.snapshots["holdout_loss"] == 0).all()
    assert np.isnan(record.signals["label_margin"]).all()


def test_a_network_without_dropout_has_no_draws_to_disagree(digits):
    record, _ = train(digits, model=PLAIN, recording=PASSES)[-1]
    assert np.isnan(record.signals["mc_dropout_bald"]).all()
    assert np.isfinite(record.signals["odin"]).all()


@pytest.mark.parametrize("folds", [-1, 0, 1])
def test_there_are_at_least_two_folds(folds):
    with pytest.raises(ValueError, match=f"folds: expected at least 2; got {folds}"):
        CrossFit(folds=folds)


def test_there_are_no_more_folds_than_samples():
    with pytest.raises(ValueError, match="at least as many samples as folds, 5; got 4"):
        train(tiny([0, 1, 2, 0], 3), options(folds=5))


def test_a_training_that_leaves_the_finite_numbers_says_what_and_when(digits):
    chosen = options(lr=1e6, schedule="constant")
    records = cross_fit(digits, ModelOptions(name="mlp"), chosen, SEEDED)
    epochs = [next(records).epoch]
    with pytest.raises(Diverged) as raised:
        epochs.extend(record.epoch for record in records)
    assert str(raised.value).endswith(f"in epoch {len(epochs) - 1}")
