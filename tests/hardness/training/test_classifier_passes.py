"""Scoring passes over a classifier: what its networks give one by one, and no other training."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.checkpoint import weights
from hardness.dynamics.folder import write_epoch
from hardness.dynamics.record import INIT, Recording
from hardness.models.networks import build
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.signals.ensembles import mixture_entropy, mutual_information
from hardness.training import classifier_passes
from hardness.training.classifier_passes import check_kept, checkpoint_epochs, classifier_signals
from hardness.training.options import Supervised, TrainOptions
from hardness.training.passes import CHECKPOINTS, DROPOUT_DRAWS, OF_CLASSIFIERS
from hardness.training.pixels import EVAL_BATCH, Pixels
from hardness.training.supervised import supervised
from tests.trainings import assert_same_arrays

SEEDED = Streams(seed=0)
MODEL = ModelOptions(name="small_cnn", width=4, dropout=0.3)
SIGNALS = {signal for one in OF_CLASSIFIERS.values() for signal in one.signals}
WIDE = {"odin", "odin.unperturbed"}
# Two epochs more than weights are kept.
EPOCHS = 12
ALL = Recording(passes=tuple(OF_CLASSIFIERS), score_epochs=(0, 5, -1))


@pytest.fixture(scope="module")
def digits():
    return load(DatasetOptions(name="digits", subset=80), 0.2)


def options(**train):
    defaults = {"max_epochs": EPOCHS, "batch_size": 32, "lr": 0.1}
    return Supervised(train=TrainOptions(**defaults | train), augmentation=Augmentation(pad=1))


def train(dataset, chosen=None, *, recording=ALL, resume=None, model=MODEL):
    """Records of a training, each with the checkpoint that was there when it came."""
    records = supervised(
        dataset, model, chosen or options(), SEEDED, recording=recording, resume=resume
    )
    return [(record, record.checkpoint()) for record in records]


@pytest.fixture(scope="module")
def whole(digits):
    return train(digits)


def restored(dataset, tensors, model=MODEL):
    """The network of these weights, in eval mode."""
    network = build(
        model,
        image_shape=tuple(dataset.train.images.shape[1:]),
        n_classes=len(dataset.classes),
        streams=Streams(seed=99),
    )
    network.load_state_dict(tensors)
    return network.eval()


def of_state(state):
    return {k.removeprefix("module."): v for k, v in state.tensors.items() if "module." in k}


def scored(dataset, network, names=tuple(OF_CLASSIFIERS), **changed):
    pixels = Pixels(dataset.train.images, torch.device("cpu"))
    arguments = {"streams": SEEDED, "epoch": 5, "kept": kept_of(dataset)} | changed
    return classifier_signals(names, network, pixels, dataset.train.labels, **arguments)


def network_of(dataset, model=MODEL, seed=0):
    """A network whose batch statistics are not those of an untouched one."""
    network = build(model, image_shape=(1, 8, 8), n_classes=10, streams=Streams(seed=seed))
    torch.manual_seed(0)  # of the dropout
    with torch.no_grad():
        network.train()(normalised(dataset))
    return network.eval()


def kept_of(dataset, model=MODEL):
    """Weights of as many networks as a long run keeps."""
    return {e: weights(network_of(dataset, model, seed=e + 1)) for e in range(CHECKPOINTS)}


def normalised(dataset):
    """Images in the units of the network, by hand."""
    unit = dataset.train.images.double() / 255
    return ((unit - unit.mean()) / unit.std(correction=0)).float()


# What is recorded


def slow_grand(network, x, y):
    slopes = torch.autograd.grad(cross_entropy(network(x[None]), y[None]), network.parameters())
    return math.sqrt(sum(slope.square().sum() for slope in slopes))


def slow_odin(network, unit, normalise, epsilon):
    x = unit[None].clone().requires_grad_()
    z = network(normalise(x))
    (slope,) = torch.autograd.grad(cross_entropy(z / 1000, z.argmax(1)), x)
    moved = x.detach() - epsilon * (2.0 * (slope >= 0) - 1)
    return (network(normalise(moved)) / 1000).softmax(1).max().item()


def slow_vog(networks, x, y, of):
    """Pixel by pixel over the networks, each gradient in the units of the network."""
    gradients = []
    for network in networks:
        leaf = x[None].clone().requires_grad_()
        z = network(leaf)[0]
        number = z[y] if of == "logit" else z.softmax(0)[y]
        gradients.append(torch.autograd.grad(number, leaf)[0][0].mean(0))
    return torch.stack(gradients).std(0, correction=0).mean().item()


def test_passes_record_what_the_checkpointed_networks_give_one_sample_at_a_time(digits, whole):
    """In float64, at the last epoch; VoG over the networks of ten of the twelve epochs."""
    record, state = whole[-1]
    rows = range(0, len(digits.train), 9)
    network = restored(digits, of_state(state)).double()
    states = [state for _, state in whole[1:]]
    networks = [restored(digits, of_state(states[e])).double() for e in checkpoint_epochs(EPOCHS)]
    assert len(networks) == CHECKPOINTS < EPOCHS
    unit, labels = digits.train.images.double() / 255, digits.train.labels
    mean, std = unit.mean(), unit.std(correction=0)

    def normalise(images):
        return (images - mean) / std

    expected = {name: [] for name in SIGNALS if not name.startswith("mc_dropout")}
    for i in rows:
        x, y = normalise(unit[i]), labels[i]
        expected["grand"].append(slow_grand(network, x, y))
        expected["odin"].append(slow_odin(network, unit[i], normalise, 0.0014))
        expected["odin.unperturbed"].append(slow_odin(network, unit[i], normalise, 0.0))
        expected["vog"].append(slow_vog(networks, x, y, "logit"))
        expected["vog.early"].append(slow_vog(networks[:3], x, y, "logit"))
        expected["vog.late"].append(slow_vog(networks[-3:], x, y, "logit"))
        expected["vog_prob"].append(slow_vog(networks, x, y, "probability"))
    for name, values in expected.items():
        found = record.signals[name][rows]
        # ODIN's scores agree in their first digits, whatever the network.
        rtol = 1e-6 if name in WIDE else 1e-3
        np.testing.assert_allclose(found, values, rtol=rtol, err_msg=name)
        assert len(np.unique(record.signals[name])) == len(digits.train)


def test_a_third_of_the_checkpoints_is_compared_with_their_own_mean(digits):
    """The mean of all would add what the whole training moved."""
    found = scored(digits, network_of(digits), names=["vog"])
    first = {epoch: kept for epoch, kept in kept_of(digits).items() if epoch < 3}
    early = scored(digits, network_of(digits), names=["vog"], kept=first)
    assert torch.equal(found["vog.early"], early["vog"])
    assert early["vog.early"].isnan().all()  # a single checkpoint has no spread


def test_dropout_draws_come_from_a_stream_of_their_own(digits, whole):
    record, state = whole[-1]
    network = restored(digits, of_state(state))
    apart = Streams(seed=0, salt="|mc_dropout")
    torch.manual_seed(apart.integer("dropout", EPOCHS - 1))
    with torch.no_grad():
        emb = network.encoder(normalised(digits))
        log_probs = torch.stack(
            [
                network.head(torch.nn.functional.dropout(emb, 0.3)).double().log_softmax(1)
                for _ in range(DROPOUT_DRAWS)
            ]
        )
    for name, function in (
        ("mc_dropout_entropy", mixture_entropy),
        ("mc_dropout_bald", mutual_information),
    ):
        np.testing.assert_allclose(record.signals[name], function(log_probs), rtol=1e-3, atol=1e-6)
    assert (record.signals["mc_dropout_bald"] > 0).all()


def test_passes_are_made_in_the_epochs_that_are_asked_for(whole):
    for record, _ in whole:
        made = SIGNALS & record.signals.keys()
        at_end = {*OF_CLASSIFIERS["vog"].signals}
        expected = {INIT: set(), 0: SIGNALS - at_end, 5: SIGNALS - at_end, EPOCHS - 1: SIGNALS}
        assert made == expected.get(record.epoch, set())
        assert all(
            record.signals[name].dtype == (np.float64 if name in WIDE else np.float32)
            for name in made
        )


def test_no_pass_is_made_unless_asked_for(digits):
    for recording in (Recording(), dataclasses.replace(ALL, signals=False)):
        for record, state in train(digits, options(max_epochs=1), recording=recording):
            assert not SIGNALS & record.signals.keys()
            assert not state.kept


@pytest.mark.parametrize("epoch", [3, -4])
def test_an_epoch_that_the_run_does_not_have_is_refused_before_training(digits, epoch):
    recording = dataclasses.replace(ALL, score_epochs=(epoch,))
    records = supervised(digits, MODEL, options(max_epochs=3), SEEDED, recording=recording)
    with pytest.raises(ValueError, match=f"score_epochs: expected .* -3 to 2; got {epoch}"):
        next(records)


def test_a_network_without_dropout_has_no_such_uncertainty(digits):
    """Missing, not 0: a 0 would say that it is sure."""
    network = network_of(digits, ModelOptions(width=4, dropout=0.0))
    found = scored(digits, network, names=["mc_dropout"])
    assert all(values.isnan().all() for values in found.values())
    assert found.keys() == {*OF_CLASSIFIERS["mc_dropout"].signals}


def test_odin_keeps_its_digits_on_disk(whole, tmp_path):
    from pyarrow import parquet

    record, _ = whole[-1]
    (name, *_) = write_epoch(tmp_path, record)
    stored = parquet.read_table(tmp_path / name)["odin"].to_numpy()
    assert stored.tobytes() == record.signals["odin"].tobytes()
    assert stored.dtype == np.float64


def test_images_of_several_blocks_and_of_some_rows(digits):
    """More samples than are scored at once; rows in an order of their own."""
    n = EVAL_BATCH + 88
    many = dataclasses.replace(digits, train=digits.train.take(torch.arange(n) % 64))
    network = network_of(digits)
    found = scored(many, network)
    rows = torch.arange(n - 1, -1, -7)
    some = scored(many, network, rows=rows)
    for name, values in found.items():
        assert values.shape == (n,)
        assert some[name].shape == rows.shape
        if not name.startswith("mc_dropout"):  # which units are dropped follows the order
            torch.testing.assert_close(values[:64], values[64:128], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(some[name], values[rows], rtol=1e-4, atol=1e-6)


def test_gradients_at_all_checkpoints_are_held_for_few_samples_at_a_time(digits, monkeypatch):
    network = network_of(digits)
    together = scored(digits, network, names=["vog"])
    monkeypatch.setattr(classifier_passes, "_GRADIENTS", 5 * CHECKPOINTS * 64)
    seen = []
    original = classifier_passes._vog_of

    def spy(*arguments):
        seen.append(len(arguments[2]))
        return original(*arguments)

    monkeypatch.setattr(classifier_passes, "_vog_of", spy)
    apart = scored(digits, network, names=["vog"])
    assert seen == [5] * 12 + [4]
    for name, values in together.items():
        torch.testing.assert_close(apart[name], values, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_the_declared_cost_is_that_of_the_passes_that_are_made(digits):
    """Calls of the network count one, calls of its backward pass two; all samples are one block."""
    network, calls = network_of(digits), []

    def count(_module, _inputs, logits):
        calls.append(1)
        if logits.requires_grad:
            logits.register_hook(lambda _: calls.append(2))

    network.register_forward_hook(count)
    kept = kept_of(digits)
    for name, one in OF_CLASSIFIERS.items():
        calls.clear()
        scored(digits, network, names=[name], kept=kept)
        assert sum(calls) == one.forwards, name


# What is left alone


def test_passes_leave_the_training_alone(digits, whole):
    """With dropout, whose global stream the passes use too."""
    bare = train(digits, recording=Recording())
    assert len(bare) == len(whole)
    for (record, state), (full, other) in zip(bare, whole, strict=True):
        assert not SIGNALS & record.signals.keys()
        others = {k: v for k, v in full.signals.items() if k not in SIGNALS}
        assert_same_arrays(record.signals, others)
        assert_same_arrays(record.snapshots, full.snapshots)
        assert state.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(state.tensors[k], v) for k, v in other.tensors.items())
        for name, value in record.summary.items():
            assert name.endswith("_seconds") or full.summary[name] == value


def test_a_pass_leaves_the_network_alone(digits):
    network = network_of(digits)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scored(digits, network)
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())


def test_a_pass_gives_the_same_bits_beside_another(digits):
    network = network_of(digits)
    together = scored(digits, network)
    for name, one in OF_CLASSIFIERS.items():
        torch.rand(3)
        alone = scored(digits, network, names=[name])
        assert alone.keys() == {*one.signals}
        for k, values in alone.items():
            assert values.numpy().tobytes() == together[k].numpy().tobytes()


def test_dropout_follows_its_stream_and_the_epoch(digits):
    network = network_of(digits)

    def bald(**changed):
        return scored(digits, network, names=["mc_dropout"], **changed)["mc_dropout_bald"]

    one = bald()
    assert torch.equal(bald(), one)
    assert not torch.equal(bald(streams=Streams(seed=1)), one)
    assert not torch.equal(bald(streams=Streams(seed=0, salt="other")), one)
    assert not torch.equal(bald(epoch=6), one)
    held = [Streams(seed=seed, vary=("weights", "order")) for seed in (1, 2)]
    assert torch.equal(*(bald(streams=streams) for streams in held))


# Going on after a break


def test_weights_are_kept_of_ten_epochs_at_equal_distances(whole):
    keep = checkpoint_epochs(EPOCHS)
    assert keep == (0, 1, 2, 4, 5, 6, 7, 9, 10, 11)
    assert checkpoint_epochs(4) == (0, 1, 2, 3)
    for record, state in whole:
        assert [*state.kept] == [epoch for epoch in keep if epoch <= record.epoch]
        for epoch, tensors in state.kept.items():
            of_then = of_state(whole[epoch + 1][1])
            assert tensors.keys() == of_then.keys()
            assert all(torch.equal(tensors[k], v) for k, v in of_then.items())


def test_going_on_from_any_checkpoint_gives_the_same_bits(digits, whole, tmp_path):
    for record, state in whole[:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path))
        rest = train(digits, resume=resume)
        assert [again.epoch for again, _ in rest] == list(range(record.epoch + 1, EPOCHS))
        for (again, later), (once, other) in zip(rest, whole[record.epoch + 2 :], strict=True):
            assert_same_arrays(again.signals, once.signals)
            assert later.kept.keys() == other.kept.keys()
        assert {*OF_CLASSIFIERS["vog"].signals} <= rest[-1][0].signals.keys()
    kept = sorted(path.name for path in tmp_path.glob("weights=*"))
    assert kept == [f"weights={epoch:04d}.safetensors" for epoch in checkpoint_epochs(EPOCHS)[:-1]]


def test_a_checkpoint_of_a_training_without_the_pass_is_refused(digits):
    """VoG over fewer checkpoints would pass for the whole."""
    chosen = options(max_epochs=3)
    _, state = train(digits, chosen, recording=Recording())[2]
    assert (state.epoch, state.kept) == (1, {})
    with pytest.raises(ValueError, match="vog") as raised:
        train(digits, chosen, recording=Recording(passes=("vog",)), resume=state)
    assert str(raised.value) == (
        "vog: expected a checkpoint that keeps the weights of epochs 0, 1; "
        "got one of a training without that pass"
    )
    without = Recording(passes=("grand",))
    ((record, _),) = train(digits, chosen, recording=without, resume=state)
    assert "grand" in record.signals


def test_no_weights_are_missed_before_the_first_epoch():
    check_kept({}, [])
    check_kept({0: {}, 4: {}}, [0, 4])
