"""Scoring passes over a contrastive network record what one sample at a time gives."""

import dataclasses

import numpy as np
import pytest
import torch
from lightly.loss import BarlowTwinsLoss, NTXentLoss

from hardness.data.datasets import load
from hardness.data.options import DatasetOptions
from hardness.dynamics import checkpoint as checkpoints
from hardness.dynamics.record import INIT, Recording
from hardness.models.augmentation import augment, draw
from hardness.models.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.training.contrastive import _Contrastive, _objective, contrastive
from hardness.training.contrastive_passes import BATCH, EPSILON, contrastive_signals, fixed_batches
from hardness.training.loop import Setup
from hardness.training.options import Contrastive, TrainOptions
from hardness.training.passes import OF_CONTRASTIVE, PAIRS_OF_VIEWS, ends_and_between, schedule
from hardness.training.pixels import Pixels

OBJECTIVES = ("simclr", "barlow_twins")
MODEL = ModelOptions(name="small_cnn", width=4)
VIEWS = Augmentation(crop_scale=(0.5, 1.0), flip=0.5, contrast=0.4)
SIGNALS = {signal for one in OF_CONTRASTIVE.values() for signal in one.signals}
SEEDED = Streams(seed=0)


@pytest.fixture(scope="module")
def digits():
    return load(DatasetOptions(name="digits", subset=400), 0.2)


@pytest.fixture(scope="module")
def few(digits):
    return dataclasses.replace(digits, train=digits.train.take(torch.arange(7)))


def options(objective="simclr", **train):
    defaults: dict = {"max_epochs": 4, "batch_size": 64, "lr": 1e-2, "optimizer": "adamw"}
    return Contrastive(
        objective=objective,
        temperature=0.3,
        projection=6,
        train=TrainOptions(**defaults | train),
        augmentation=VIEWS,
    )


def network_of(dataset, chosen):
    """A network whose batch statistics are not those of an untouched one."""
    setup = Setup(dataset, MODEL, chosen, SEEDED, torch.device("cpu"), Recording())
    network = _Contrastive(setup).network
    torch.manual_seed(0)  # of the dropout
    with torch.no_grad():
        network(Pixels(dataset.train.images, torch.device("cpu")).normalize(views_of(dataset)[0]))
    return network.eval()


def scored(dataset, chosen, network=None, names=tuple(OF_CONTRASTIVE), **changed):
    arguments: dict = {"streams": SEEDED, "epoch": 5, "data_seed": 0, "at_once": BATCH} | changed
    return contrastive_signals(
        names,
        network or network_of(dataset, chosen),
        Pixels(dataset.train.images, torch.device("cpu")),
        _objective(chosen),
        chosen.augmentation,
        **arguments,
    )


def views_of(dataset, epoch=5):
    """All views of all samples, pair by pair, as the stream of that epoch draws them."""
    generator = SEEDED.generator("views", epoch)
    unit = dataset.train.images.float() / 255
    return [
        augment(VIEWS, unit, draw(VIEWS, len(unit), generator)) for _ in range(2 * PAIRS_OF_VIEWS)
    ]


def own_loss(chosen, a, b, i):
    """The loss of sample i in a batch of projections, by lightly or written out."""
    if chosen.objective == "simclr":
        loss = NTXentLoss(temperature=chosen.temperature)
        loss.cross_entropy.reduction = "none"
        rows = loss(a.double(), b.double())
        return (rows[i] + rows[i + len(a)]) / 2
    first, second = (
        (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (a.double(), b.double())
    )
    return (first[i] - second[i]).square().sum()


def batch_loss(chosen, a, b):
    theirs = (
        NTXentLoss(temperature=chosen.temperature)
        if chosen.objective == "simclr"
        else BarlowTwinsLoss(lambda_param=chosen.off_diagonal)
    )
    return theirs(a.double(), b.double())


def one_at_a_time(dataset, chosen, network, views):
    """The signals of one pair of views, a network pass and a backward pass for each sample."""
    n = len(dataset.train)
    pixels = Pixels(dataset.train.images, torch.device("cpu"))
    x = [pixels.normalize(view).double().requires_grad_() for view in views]
    z = [torch.cat([network(row[None]) for row in view]) for view in x]
    found = {name: np.empty(n) for name in SIGNALS}
    slopes = [n * s for s in torch.autograd.grad(batch_loss(chosen, *z), x, retain_graph=True)]
    fixed = [value.detach() for value in z]
    for i in range(n):

        def loss(*images, i=i):
            """Own loss of images in place of sample i's, all other projections constants."""
            rows = [network(image[None]) for image in images]
            among = [
                torch.cat([v[:i], row, v[i + 1 :]]) for v, row in zip(fixed, rows, strict=True)
            ]
            return own_loss(chosen, among[0], among[1], i)

        images = [view[i].detach().requires_grad_() for view in x]
        here = loss(*images)
        weight = network.projector[-1].weight
        *own, by_weight = torch.autograd.grad(here, [*images, weight])
        moved = [
            pixels.normalize((view[i] + EPSILON * slope.float().sign())[None])[0].double()
            for view, slope in zip(views, own, strict=True)
        ]
        found["lgn"][i] = (slopes[0][i] + slopes[1][i]).norm()
        found["lgn.stacked"][i] = torch.cat([slopes[0][i], slopes[1][i]]).norm()
        found["lgn.own"][i] = (own[0] + own[1]).norm()
        found["ssl_param_grad_norm"][i] = by_weight.norm()
        found["ssl_param_grad_norm.l1"][i] = by_weight.abs().sum()
        found["ssl_perturbation_gain"][i] = (loss(*moved) - here).item()
        found["ssl_loss_ntxent"][i] = own_loss(options("simclr"), fixed[0], fixed[1], i)
        found["barlow_alignment"][i] = own_loss(options("barlow_twins"), fixed[0], fixed[1], i)
    a, b = ((v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in fixed)
    c = a.T @ b / n
    g = 2 * chosen.off_diagonal * c
    g[range(len(c)), range(len(c))] = -2 * (1 - c.diagonal())
    found["barlow_influence"] = np.array(
        [(u @ g @ v - (g * c).sum()) / n for u, v in zip(a, b, strict=True)]
    )
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_signals_agree_with_one_sample_at_a_time(few, objective):
    """Two pairs of views; networks in float64, losses by lightly, gradients one by one."""
    chosen = options(objective)
    network, views = network_of(few, chosen), views_of(few)
    found = scored(few, chosen, network)
    network.double()
    pairs = [
        one_at_a_time(few, chosen, network, views[2 * d : 2 * d + 2]) for d in range(PAIRS_OF_VIEWS)
    ]
    assert found.keys() == SIGNALS
    for name, values in found.items():
        assert values.dtype == torch.float32
        expected = np.mean([pair[name] for pair in pairs], axis=0)
        np.testing.assert_allclose(values, expected, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_sample_is_scored_in_its_batch_and_those_that_fill_one_up_do_not_count(digits, objective):
    """320 samples: a batch of 256, then 64 samples with the first 192 of the permutation."""
    chosen = options(objective)
    network, views = network_of(digits, chosen), views_of(digits)
    found = scored(digits, chosen, network, names=["views"])
    order = torch.cat([rows[:first] for rows, first in fixed_batches(320, 0)])
    pixels = Pixels(digits.train.images, torch.device("cpu"))
    expected = torch.zeros(320, dtype=torch.float64)
    for members, counted in (
        (order[:256], order[:256]),
        (torch.cat([order[256:], order[:192]]), order[256:]),
    ):
        for d in range(PAIRS_OF_VIEWS):
            x = [
                pixels.normalize(view[members]).requires_grad_()
                for view in views[2 * d : 2 * d + 2]
            ]
            slopes = torch.autograd.grad(batch_loss(chosen, *map(network, x)), x)
            norms = 256 * (slopes[0] + slopes[1]).flatten(1).norm(dim=1)
            expected[counted] += norms[: len(counted)].double() / PAIRS_OF_VIEWS
    np.testing.assert_allclose(found["lgn"], expected, rtol=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_activations_computed_again_in_parts_give_the_same(few, objective):
    chosen = options(objective)
    network = network_of(few, chosen)
    whole, parts = scored(few, chosen, network), scored(few, chosen, network, at_once=3)
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values, rtol=2e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("n", [2, 255, 256, 257, 600])
def test_batches_are_of_one_size_and_every_sample_counts_once(n):
    batches = list(fixed_batches(n, data_seed=3))
    assert {len(rows) for rows, _ in batches} == {min(n, BATCH)}
    assert all(len(rows.unique()) == len(rows) for rows, _ in batches)
    counted = torch.cat([rows[:first] for rows, first in batches])
    assert sorted(counted.tolist()) == list(range(n))
    if n > 2:
        assert counted.tolist() != list(range(n))


def test_batches_follow_the_data_seed_alone():
    def order(data_seed):
        return torch.cat([rows for rows, _ in fixed_batches(300, data_seed)])

    torch.manual_seed(1)
    one = order(0)
    torch.manual_seed(2)
    assert torch.equal(order(0), one)
    assert not torch.equal(order(1), one)


def test_the_data_seed_reaches_the_batches(digits):
    other = load(DatasetOptions(name="digits", subset=400, data_seed=5), 0.2)
    assert (digits.data_seed, other.data_seed) == (0, 5)
    recording = Recording(passes=("views",), score_epochs=(0,))

    def run(dataset):
        *_, record = contrastive(dataset, MODEL, options(max_epochs=1), SEEDED, recording=recording)
        return record.signals

    one, two = run(digits), run(dataclasses.replace(digits, data_seed=5))
    assert one["feature_norm"].tobytes() == two["feature_norm"].tobytes()
    assert one["lgn"].tobytes() != two["lgn"].tobytes()


def test_views_follow_their_own_stream_and_the_epoch(few):
    chosen = options()
    network = network_of(few, chosen)
    one = scored(few, chosen, network)["lgn"]
    held = Streams(seed=7, vary=("weights", "order", "augmentation", "dropout"))
    also_held = Streams(seed=8, vary=held.vary)
    assert torch.equal(
        scored(few, chosen, network, streams=held)["lgn"],
        scored(few, chosen, network, streams=also_held)["lgn"],
    )
    assert not torch.equal(scored(few, chosen, network, streams=Streams(seed=1))["lgn"], one)
    assert not torch.equal(scored(few, chosen, network, epoch=6)["lgn"], one)


def test_a_pass_gives_the_same_bits_beside_another(few):
    chosen = options()
    network = network_of(few, chosen)
    together = scored(few, chosen, network)
    for name, one in OF_CONTRASTIVE.items():
        alone = scored(few, chosen, network, names=[name])
        assert alone.keys() == {*one.signals}
        assert all(torch.equal(values, together[k]) for k, values in alone.items())


def test_a_pass_leaves_the_network_alone(few):
    network = network_of(few, options())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    scored(few, options(), network, at_once=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())


def test_without_an_augmentation_views_agree(few):
    chosen = dataclasses.replace(options(), augmentation=Augmentation())
    found = scored(few, chosen)
    np.testing.assert_array_equal(found["barlow_alignment"], 0.0)
    assert found["lgn"].isfinite().all()


def test_near_duplicates_inflate_ntxent(digits):
    """Nine copies of one image among ninety others."""
    train = digits.train.take(torch.arange(99))
    images = train.images.clone()
    images[90:] = images[90]
    copies = dataclasses.replace(digits, train=dataclasses.replace(train, images=images))
    *_, record = contrastive(
        copies,
        ModelOptions(name="small_cnn", width=8),
        options(max_epochs=20, batch_size=33),
        SEEDED,
        recording=Recording(passes=("views",), score_epochs=(-1,)),
    )
    rank = record.signals["ssl_loss_ntxent"].argsort().argsort()
    assert rank[90:].mean() > 75


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recording_passes_leaves_the_training_alone(digits, objective):
    def states(passes):
        recording = Recording(passes=passes, score_epochs=(0, 2) if passes else None)
        return [
            (record, record.checkpoint())
            for record in contrastive(
                digits, MODEL, options(objective), SEEDED, recording=recording
            )
        ]

    for (bare, state), (full, other) in zip(states(()), states(tuple(OF_CONTRASTIVE)), strict=True):
        assert all(torch.equal(state.tensors[k], v) for k, v in other.tensors.items())
        assert {*full.signals} - {*bare.signals} == (SIGNALS if full.epoch in (0, 2) else set())
        for name, values in bare.signals.items():
            assert full.signals[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_going_on_between_two_scored_epochs_gives_the_same_bits(digits, tmp_path, objective):
    chosen = options(objective)
    recording = Recording(passes=tuple(OF_CONTRASTIVE), score_epochs=(0, 3))

    def train(resume=None):
        records = contrastive(digits, MODEL, chosen, SEEDED, recording=recording, resume=resume)
        return [(record, record.checkpoint()) for record in records]

    whole = train()
    for record, state in whole[1:-1]:
        resume = checkpoints.load(checkpoints.save(state, tmp_path / str(record.epoch)))
        rest = train(resume)
        assert rest[-1][0].signals.keys() >= SIGNALS
        for (again, _), (once, _) in zip(rest, whole[record.epoch + 2 :], strict=True):
            assert again.signals.keys() == once.signals.keys()
            for name, values in once.signals.items():
                assert again.signals[name].tobytes() == values.tobytes(), name


def test_no_pass_is_made_unless_asked_for(digits):
    for record in contrastive(digits, MODEL, options(max_epochs=1), SEEDED):
        assert not SIGNALS & record.signals.keys()
    silent = Recording(signals=False, passes=tuple(OF_CONTRASTIVE))
    for record in contrastive(digits, MODEL, options(max_epochs=1), SEEDED, recording=silent):
        assert not record.signals


def test_by_default_views_are_scored_at_both_ends_and_between_and_steps_at_the_last_epoch():
    found = schedule(OF_CONTRASTIVE, Recording(passes=tuple(OF_CONTRASTIVE)), 30)
    assert found == {"views": ends_and_between(30), "perturbation": (29,)}
    assert len(found["views"]) == 15


def test_an_epoch_that_the_run_does_not_have_is_refused(digits):
    recording = Recording(passes=("views",), score_epochs=(4,))
    with pytest.raises(ValueError, match="score_epochs: expected epochs from -4 to 3; got 4"):
        next(contrastive(digits, MODEL, options(), SEEDED, recording=recording))


def test_nothing_is_scored_before_training(digits):
    records = contrastive(digits, MODEL, options(), SEEDED, recording=Recording(passes=("views",)))
    first = next(records)
    assert first.epoch == INIT
    assert not SIGNALS & first.signals.keys()
