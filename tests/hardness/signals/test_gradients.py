"""Signals of the model itself against one sample at a time, in float64, and in little memory."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pytorch_ood.detector import ODIN, GradNorm
from scipy.special import entr, log_softmax, logsumexp
from torch import nn
from torch.nn.functional import cross_entropy

from hardness.models.networks import build
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import blocks
from hardness.signals import ensembles as ensemble_signals
from hardness.signals import logits as logit_signals
from hardness.signals.gradients import (
    dropout_log_probs,
    drops_units,
    grand_from_model,
    input_gradient,
    label_logit,
    label_probability,
    odin_from_model,
    vog_from_gradients,
)
from tests.strategies import numbers

CLASSES = 5
SHAPE = (3, 8, 8)
NAMES = ("mlp", "small_cnn")
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])


def network_of(name="small_cnn", dropout=0.1, seed=0):
    """A network in eval mode whose batch statistics are not those of an untouched one."""
    options = ModelOptions(name=name, width=4, dropout=dropout)
    network = build(options, image_shape=SHAPE, n_classes=CLASSES, streams=Streams(seed=seed))
    torch.manual_seed(0)  # of the dropout
    with torch.no_grad():
        network.train()(images_of(50, seed=1))
    return network.eval()


def images_of(n=7, seed=0):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def labels_of(n=7):
    return torch.arange(n) % CLASSES


def unchecked(function):
    """The function without the suite's shape checks, as a user calls it."""
    return inspect.unwrap(function)


class Linear(nn.Module):
    """Logits as a linear function of the pixels, with weights that a hand can compute with."""

    def __init__(self, weight, bias=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else torch.tensor(bias))

    def forward(self, x):
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


def one_pixel(*values):
    return torch.tensor(values)[:, None, None, None]


# GraNd


def one_at_a_time(network, images, labels):
    """GraNd by a backward pass for each sample, all of it in float64."""
    network = network.double()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    norms = []
    for image, label in zip(images.double(), labels, strict=True):
        slopes = torch.autograd.grad(cross_entropy(network(image[None]), label[None]), trained)
        norms.append(math.sqrt(sum(slope.square().sum().item() for slope in slopes)))
    network.float()
    return norms


def test_grand_worked_by_hand():
    """Both classes at one half: the error is -1/2, 1/2, and the gradient its product with 3, 1."""
    network = Linear([[0.0], [0.0]]).eval()
    found = grand_from_model(network, one_pixel(3.0), torch.tensor([0]))
    assert found.tolist() == pytest.approx([math.sqrt(0.5 * (9 + 1))])


@pytest.mark.parametrize("name", NAMES)
def test_grand_agrees_with_autograd_one_sample_at_a_time(name):
    network, images, labels = network_of(name), images_of(), labels_of()
    found = grand_from_model(network, images, labels)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, one_at_a_time(network, images, labels), rtol=1e-5)


def test_grand_of_the_head_alone_is_the_closed_form():
    network, images, labels = network_of(), images_of(), labels_of()
    network.encoder.requires_grad_(requires_grad=False)
    with torch.no_grad():
        emb = network.encoder(images)
        closed = logit_signals.grand_last_layer_from_head(emb, network.head(emb), labels)
    np.testing.assert_allclose(grand_from_model(network, images, labels), closed, rtol=1e-5)
    network.head.requires_grad_(requires_grad=False)
    assert grand_from_model(network, images, labels).tolist() == [0.0] * 7


def test_grand_counts_weights_that_two_layers_share_once():
    """The gradient of a shared weight is the sum of the two layers' gradients."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).eval()
    network[3].weight = network[1].weight
    images, labels = torch.randn(5, 1, 2, 2), torch.arange(5) % 4
    found = grand_from_model(network, images, labels)
    np.testing.assert_allclose(found, one_at_a_time(network, images, labels), rtol=1e-5)


def test_grand_of_a_memorized_sample_keeps_its_digits():
    """An error of exp(-24) is lost where a probability near one is rounded to float32."""
    logits = torch.tensor([24.0, 0.0])
    assert logits.softmax(0)[0] == 1
    found = grand_from_model(Linear([[24.0], [0.0]]).eval(), one_pixel(1.0), torch.tensor([0]))
    np.testing.assert_allclose(found, [2 * math.exp(-24)], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_grand_of_a_sample_ignores_the_others(name):
    network, images, labels = network_of(name), images_of(), labels_of()
    found = grand_from_model(network, images, labels)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        grand_from_model(network, images[order], labels[order]), found[order]
    )
    torch.testing.assert_close(grand_from_model(network, images[2:3], labels[2:3]), found[2:3])
    images[4, 0, 3, 3] = torch.nan
    spoiled = grand_from_model(network, images, labels)
    assert spoiled.isnan().nonzero()[:, 0].tolist() == [4]
    torch.testing.assert_close(spoiled[:4], found[:4])


def test_grand_ignores_a_constant_added_to_all_logits():
    network, images, labels = network_of(), images_of(), labels_of()
    found = grand_from_model(network, images, labels)
    with torch.no_grad():
        network.head.bias += 3.0
    torch.testing.assert_close(grand_from_model(network, images, labels), found, rtol=1e-4, atol=0)


@pytest.mark.parametrize("memory_bytes", [1, 10_000, 1 << 40])
def test_chunks_do_not_show(memory_bytes):
    network, images, labels = network_of(), images_of(), labels_of()
    found = grand_from_model(network, images, labels, memory_bytes=memory_bytes)
    torch.testing.assert_close(found, grand_from_model(network, images, labels), rtol=1e-5, atol=0)


def test_grand_leaves_the_network_alone():
    network, images, labels = network_of(), images_of(), labels_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        grand_from_model(network, images, labels)
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


def test_grand_of_a_network_in_training_is_refused():
    """Batch statistics of a batch leave no gradient that belongs to one sample."""
    network = network_of()
    network.encoder[1].train()
    with pytest.raises(ValueError, match="eval mode; got one that is training"):
        grand_from_model(network, images_of(), labels_of())


def test_grand_of_no_samples():
    assert grand_from_model(network_of(), images_of(0), labels_of(0)).shape == (0,)


def peak_bytes(function):
    """The most bytes that torch held at a time, on top of those before, kernels' own included."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    events = profile.profiler.kineto_results.events()
    steps = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(np.cumsum([size for _, size in steps]))


@pytest.fixture(scope="module")
def large():
    """Ten million parameters, sixteen samples: 629 MB of gradients, 39 MB a sample."""
    torch.manual_seed(0)
    layers = (nn.Linear(64, 3000), nn.ReLU(), nn.Linear(3000, 3200), nn.ReLU())
    network = nn.Sequential(nn.Flatten(), *layers, nn.Linear(3200, 10)).eval()
    a_sample = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert a_sample > 39e6
    return network, torch.randn(16, 1, 8, 8), torch.arange(16) % 10, a_sample


@pytest.mark.parametrize("samples_held", [1, 3])
def test_grand_holds_the_gradients_of_few_samples_at_a_time(large, samples_held):
    network, images, labels, a_sample = large
    bound = samples_held * a_sample
    peak = peak_bytes(lambda: grand_from_model(network, images, labels, memory_bytes=bound))
    assert samples_held * a_sample <= peak < (samples_held + 0.5) * a_sample


def test_gradients_of_all_samples_at_once_would_be_noticed(large):
    network, images, labels, a_sample = large
    assert (
        peak_bytes(lambda: grand_from_model(network, images, labels, memory_bytes=1 << 40))
        > 16 * a_sample
    )


# The closed forms of a linear head


def head_gradients(emb, logits, loss):
    """Gradient of each sample's loss with respect to the weight of a head, and to its bias."""
    classes, found = logits.shape[1], []
    for i, (h, z) in enumerate(zip(emb, logits, strict=True)):
        # A head that maps this embedding to these logits.
        weight = torch.zeros(classes, len(h), dtype=torch.float64, requires_grad=True)
        bias = z.clone().requires_grad_()
        found.append(torch.autograd.grad(loss(weight @ h + bias, i), (weight, bias)))
    return found


def head_of(samples=20, width=6, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    emb = torch.randn(samples, width, dtype=torch.float64, generator=generator)
    logits = 4 * torch.randn(samples, classes, dtype=torch.float64, generator=generator)
    return emb, logits, torch.randint(classes, (samples,), generator=generator)


def all_classes(logits, _):
    """The loss of the authors' code: every class is the target, with a mass of one each."""
    return -logits.log_softmax(0).sum()


def test_closed_forms_worked_by_hand():
    """Probabilities 3/4, 1/4 and an embedding of length 5, of 1-norm 7."""
    emb, logits = np.array([[3.0, -4.0]]), np.log(np.array([[3.0, 1.0]]))
    error = math.sqrt(2) / 4
    found = logit_signals.grand_last_layer_from_head(emb, logits, np.array([0]))
    assert found.tolist() == pytest.approx([error * math.sqrt(26)])
    found = logit_signals.grand_last_layer_from_head(emb, logits, np.array([0]), bias=False)
    assert found.tolist() == pytest.approx([error * 5])
    assert logit_signals.gradnorm_from_head(emb, logits).tolist() == pytest.approx(
        [7 * (0.5 + 0.5)]
    )


@pytest.mark.parametrize("bias", [True, False])
def test_grand_last_layer_agrees_with_autograd(bias):
    emb, logits, labels = head_of()
    slopes = head_gradients(emb, logits, lambda z, i: cross_entropy(z, labels[i]))
    expected = [
        math.sqrt(weight.square().sum() + bias * of_bias.square().sum())
        for weight, of_bias in slopes
    ]
    found = logit_signals.grand_last_layer_from_head(emb, logits, labels, bias=bias)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradnorm_agrees_with_autograd_and_leaves_the_bias_out():
    emb, logits, _ = head_of()
    expected = [weight.abs().sum() for weight, _ in head_gradients(emb, logits, all_classes)]
    np.testing.assert_allclose(logit_signals.gradnorm_from_head(emb, logits), expected, rtol=1e-12)


def test_gradnorm_of_the_authors_code_is_one_value_for_a_batch():
    """It is ours for a batch of one; for more, gradients of samples cancel out."""
    emb, logits, _ = head_of()
    gradients = [weight for weight, _ in head_gradients(emb, logits, all_classes)]
    of_batch = torch.stack(gradients).mean(0).abs().sum()
    ours = logit_signals.gradnorm_from_head(emb, logits)
    assert gradients[0].abs().sum().item() == pytest.approx(ours[0].item())
    assert of_batch < 0.9 * ours.mean()


def test_gradnorm_is_that_of_pytorch_ood_times_the_number_of_classes():
    """That one averages over the classes, as the paper does; the authors' code sums."""
    network, images = network_of().double(), images_of().double()
    theirs = -GradNorm(network, param_filter=lambda name: name == "head.weight").predict(images)
    with torch.no_grad():
        emb = network.encoder(images)
        ours = logit_signals.gradnorm_from_head(emb, network.head(emb))
    np.testing.assert_allclose(ours, CLASSES * theirs, rtol=1e-9)


def test_gradnorm_grows_with_the_embedding_and_ignores_a_shift_of_the_logits():
    emb, logits, _ = head_of()
    found = logit_signals.gradnorm_from_head(emb, logits)
    torch.testing.assert_close(logit_signals.gradnorm_from_head(-3 * emb, logits), 3 * found)
    torch.testing.assert_close(logit_signals.gradnorm_from_head(emb, logits + 7), found)
    assert logit_signals.gradnorm_from_head(emb, torch.zeros(20, 4)).tolist() == [0.0] * 20
    assert logit_signals.gradnorm_from_head(emb, logits[:, :1]).tolist() == [0.0] * 20


@pytest.mark.parametrize("block", [1, 9])
def test_closed_forms_in_blocks_in_kind_and_with_a_nan(monkeypatch, block):
    emb, logits, labels = (values.numpy() for values in head_of())
    whole = (
        logit_signals.grand_last_layer_from_head(emb, logits, labels),
        logit_signals.gradnorm_from_head(emb, logits),
    )
    monkeypatch.setattr(blocks, "_CPU_BLOCK", block)
    emb[5, 2] = logits[8, 0] = np.nan
    spoiled = (
        logit_signals.grand_last_layer_from_head(emb, logits, labels),
        logit_signals.gradnorm_from_head(emb, logits),
    )
    for before, after in zip(whole, spoiled, strict=True):
        assert isinstance(after, np.ndarray)
        assert np.isnan(after).nonzero()[0].tolist() == [5, 8]
        np.testing.assert_array_equal(np.delete(after, [5, 8]), np.delete(before, [5, 8]))


@pytest.mark.parametrize("rows", [1, 3])
def test_embeddings_of_other_samples_are_refused(rows):
    """A single row would count for all samples."""
    emb, logits, labels = head_of()
    for arrays in ((emb[:rows], logits, labels), (emb, logits[:rows], labels[:rows])):
        got = f"got {len(arrays[0])} and {len(arrays[1])}"
        with pytest.raises(ValueError, match=f"as many embeddings as logits; {got}"):
            unchecked(logit_signals.grand_last_layer_from_head)(*arrays)
        with pytest.raises(ValueError, match=f"as many embeddings as logits; {got}"):
            unchecked(logit_signals.gradnorm_from_head)(*arrays[:2])


# ODIN


def slow_odin(forward, image, temperature, epsilon, step=lambda slope: 2.0 * (slope >= 0) - 1.0):
    """Equations 1 and 2 of the paper for one sample; ``step`` as in the authors' code."""
    x = image[None].double().requires_grad_()
    logits = forward(x)[0]
    loss = -(logits / temperature).log_softmax(0)[logits.argmax()]
    (slope,) = torch.autograd.grad(loss, x)
    with torch.no_grad():
        moved = forward(x - epsilon * step(slope))[0] / temperature
        return (moved.exp() / moved.exp().sum()).max().item()


def test_odin_worked_by_hand():
    """Logits 2x and 0 at x = 1/2: the step of 0.1 raises the winner's logit to 1.2."""
    found = odin_from_model(Linear([[2.0], [0.0]]), one_pixel(0.5), temperature=10.0, epsilon=0.1)
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-0.12))], rtol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("temperature", "epsilon"), [(1000.0, 0.0014), (1.0, 0.1), (1000.0, 0.0)])
def test_odin_agrees_with_the_paper_one_sample_at_a_time(name, temperature, epsilon):
    network, images = network_of(name).double(), images_of().double()
    found = odin_from_model(network, images, temperature=temperature, epsilon=epsilon)
    expected = [slow_odin(network, image, temperature, epsilon) for image in images]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    without = odin_from_model(network, images, temperature=temperature, epsilon=0.0)
    assert (found.mean() > without.mean()) == (epsilon > 0)


def test_odin_by_default_is_that_of_the_paper():
    network, images = network_of().double(), images_of().double()
    assert torch.equal(
        odin_from_model(network, images),
        odin_from_model(network, images, temperature=1e3, epsilon=14e-4),
    )


def test_odin_takes_whole_numbers():
    network, images = network_of(), images_of()
    found = odin_from_model(network, images, temperature=1000, epsilon=0)
    assert torch.equal(found, odin_from_model(network, images, epsilon=0.0))


def test_odin_in_pixels_is_that_of_the_authors_in_normalised_units_divided_by_the_spread():
    """facebookresearch/odin and pytorch-ood divide the step; gradnorm_ood does not."""
    network, unit = network_of().double(), images_of().double().sigmoid()
    mean, std = MEAN.double().view(1, 3, 1, 1), STD.double().view(1, 3, 1, 1)
    found = odin_from_model(lambda x: network((x - mean) / std), unit)
    normalised = (unit - mean) / std
    authors = [
        slow_odin(network, x, 1000.0, 0.0014, lambda slope: (2.0 * (slope >= 0) - 1.0) / std)
        for x in normalised
    ]
    np.testing.assert_allclose(found, authors, rtol=1e-12)
    oracle = -ODIN(network, norm_std=STD.double().tolist()).predict(normalised)
    np.testing.assert_allclose(found, oracle, rtol=1e-12)
    undivided = odin_from_model(network, normalised)
    assert not np.allclose(found, undivided, rtol=1e-7, atol=0)
    undivided_oracle = -ODIN(network).predict(normalised)
    np.testing.assert_allclose(undivided, undivided_oracle, rtol=1e-12)


def test_odin_steps_down_where_the_gradient_is_zero_as_the_authors_do():
    """pytorch-ood stays where it is; here a unit wakes up a little further down."""

    def forward(x):
        awake = (0.001 - x.flatten(1)).relu()
        return torch.cat([1 + 1000 * awake, torch.zeros_like(awake)], dim=1)

    image = one_pixel(0.002).double()
    ours = odin_from_model(forward, image, temperature=1.0)
    assert ours.item() == pytest.approx(slow_odin(forward, image[0], 1.0, 0.0014))
    model = nn.Module()
    model.forward = forward
    stays = -ODIN(model, temperature=1.0).predict(image)
    assert ours > stays
    assert stays.item() == pytest.approx(1 / (1 + math.exp(-1)))


def test_odin_of_equal_logits_steps_towards_the_lowest_class():
    inputs = []

    def forward(x):
        inputs.append(x.detach().clone())
        return torch.cat([x.flatten(1), -x.flatten(1)], dim=1)

    odin_from_model(forward, one_pixel(0.0), epsilon=0.5)
    assert inputs[1].item() == 0.5


def test_odin_needs_float64_at_its_temperature():
    """Scores differ by a part in ten million; rounded to float32 most of them would tie."""
    logits = torch.tensor([[1.0, 0.0], [1.0001, 0.0], [1.0002, 0.0], [1.0003, 0.0]])
    found = odin_from_model(
        lambda x: logits + 0 * x.flatten(1), torch.zeros(4, 1, 1, 1), epsilon=0.0
    )
    assert (found.diff() > 0).all()
    assert len(found.float().unique()) < 4


def test_odin_of_a_sample_ignores_the_others():
    network, images = network_of(), images_of()
    found = odin_from_model(network, images)
    torch.testing.assert_close(odin_from_model(network, images[3:4]), found[3:4], rtol=1e-7, atol=0)
    images[4, 0, 3, 3] = torch.nan
    assert odin_from_model(network, images).isnan().nonzero()[:, 0].tolist() == [4]


def test_odin_leaves_images_and_network_alone():
    network, images = network_of(), images_of()
    before = images.clone()
    with torch.no_grad():
        odin_from_model(network, images)
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_odin_at_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"positive temperature; got {temperature}"):
        odin_from_model(network_of(), images_of(), temperature=temperature)


# Variance of gradients


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", [label_logit, label_probability])
def test_input_gradients_agree_with_autograd_one_sample_at_a_time(name, of):
    network, images, labels = network_of(name).double(), images_of().double(), labels_of()
    expected = []
    for image, label in zip(images, labels, strict=True):
        x = image.clone().requires_grad_()
        z = network(x[None])[0]
        number = z[label] if of is label_logit else z[label].exp() / z.exp().sum()
        (slope,) = torch.autograd.grad(number, x)
        expected.append(slope.mean(0))
    with torch.no_grad():
        found = input_gradient(network, images, labels, of=of)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-15)
    assert not images.requires_grad


def slow_vog(gradients):
    """Equations 2 and 3 of the paper, pixel by pixel."""
    found = []
    for sample in gradients.transpose(1, 0, 2, 3):
        pixels = sample.reshape(len(sample), -1).T
        found.append(
            sum(math.sqrt(sum((g - sum(p) / len(p)) ** 2 for g in p) / len(p)) for p in pixels)
            / len(pixels)
        )
    return found


def test_vog_worked_by_hand():
    """Two pixels over two checkpoints: spreads of 1 and 0, then of 3 and 2."""
    gradients = torch.tensor([[[[1.0, 5.0]], [[0.0, 0.0]]], [[[3.0, 5.0]], [[6.0, 4.0]]]])
    assert vog_from_gradients(gradients).tolist() == [0.5, 2.5]


@given(
    gradients=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
        elements=numbers(),
    )
)
def test_vog_agrees_with_the_paper(gradients):
    found = vog_from_gradients(torch.tensor(gradients))
    assert found.dtype == torch.float64
    expected = slow_vog(gradients.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    back, shifted = torch.tensor(gradients[::-1].copy()), torch.tensor(gradients + gradients[0])
    np.testing.assert_allclose(vog_from_gradients(back), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(vog_from_gradients(shifted), expected, rtol=1e-5, atol=1e-5)


def test_vog_is_not_the_unbiased_variance_nor_of_gradients_that_add_up():
    """As nn_example_difficulty and the toy script of the authors have it."""
    gradients = torch.randn(6, 40, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    gradients *= torch.linspace(0.2, 2, 40, dtype=torch.float64)[:, None, None]
    found = vog_from_gradients(gradients)
    unbiased = gradients.var(0).flatten(1).mean(1)
    assert not np.allclose(found, unbiased, rtol=0.05)
    assert not np.allclose(found, vog_from_gradients(gradients.cumsum(0)), rtol=0.05)


def test_vog_of_gradients_that_stay_is_zero_and_of_one_checkpoint_has_no_value():
    same = torch.full((3, 2, 4, 4), 0.1)
    assert vog_from_gradients(same).tolist() == [0.0, 0.0]
    assert (
        vog_from_gradients(same[:1]).isnan().tolist()
        == vog_from_gradients(same[:0]).isnan().tolist()
        == [True, True]
    )


# Dropout


def training_modules(network, call):
    """Modules that were in training mode when their forward pass ran."""
    seen = []

    def note(module, *_):
        if module.training:
            seen.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    call()
    for hook in hooks:
        hook.remove()
    return seen


def test_only_dropout_is_in_training_mode_and_only_for_the_draws():
    network, images = network_of(), images_of()
    network.head.train()  # whatever the modes were, they come back
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seen = training_modules(network, lambda: dropout_log_probs(network, images, 2))
    assert [type(module) for module in seen] == [nn.Dropout, nn.Dropout]
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[k]) for k, value in network.state_dict().items())


def test_modes_come_back_when_a_pass_fails():
    network = network_of()
    with pytest.raises(RuntimeError, match="channels"):
        dropout_log_probs(network, torch.zeros(2, 5, 8, 8), 2)
    assert not any(module.training for module in network.modules())


def test_draws_are_passes_with_some_units_of_the_embedding_dropped():
    """Two networks of one stream: the draws of the whole, and a mask drawn by hand."""
    network, images = network_of(dropout=0.5), images_of()
    torch.manual_seed(3)
    found = dropout_log_probs(network, images, 4)
    assert found.shape == (4, 7, CLASSES)
    assert found.dtype == torch.float64
    torch.manual_seed(3)
    with torch.no_grad():
        emb = network.encoder(images)
        for draw in found:
            kept = nn.functional.dropout(torch.ones_like(emb), 0.5)
            logits = network.head(emb * kept).double()
            torch.testing.assert_close(draw, logits.log_softmax(1), rtol=1e-5, atol=1e-6)
    assert not torch.equal(found[0], found[1])


def test_the_whole_network_in_training_mode_would_give_another_answer():
    """As H-CAT's agreement has it: batch statistics make a sample depend on its batch."""
    network, images = network_of(dropout=1e-9), images_of()
    fixed = dropout_log_probs(network, images, 1)[0]
    torch.testing.assert_close(dropout_log_probs(network, images[:2], 1)[0], fixed[:2])
    with torch.no_grad():
        whole = network.train()(images).double().log_softmax(1)
    assert not np.allclose(whole, fixed, atol=0.05)


@pytest.mark.parametrize(
    "kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout]
)
def test_every_kind_of_dropout_counts_and_none_that_drops_nothing(kind):
    assert drops_units(nn.Sequential(nn.Conv2d(3, 4, 3), kind(0.2)))
    assert not drops_units(nn.Sequential(nn.Conv2d(3, 4, 3), kind(0.0)))
    network = nn.Sequential(nn.Conv2d(3, 40, 3), kind(0.5), nn.Flatten()).eval()
    torch.manual_seed(0)
    one, two = dropout_log_probs(network, images_of(1), 2)
    assert not torch.equal(one, two)


def test_a_network_without_dropout_drops_nothing():
    for options in (ModelOptions(name="resnet18_cifar"), ModelOptions(dropout=0.0)):
        network = build(options, image_shape=SHAPE, n_classes=2, streams=Streams(seed=0))
        assert not drops_units(network)


# Disagreement


@st.composite
def predictions(draw):
    """Log-probabilities of some members, in float64, certainty among them."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 5)))
    logits = draw(hnp.arrays(np.float64, shape, elements=numbers(-40.0, 40.0)))
    return log_softmax(logits, axis=2)


@given(log_probs=predictions())
def test_disagreement_agrees_with_the_definition(log_probs):
    p = np.exp(log_probs)
    total, own = entr(p.mean(axis=0)).sum(axis=1), entr(p).sum(axis=2).mean(axis=0)
    entropy, mi = (
        ensemble_signals.mixture_entropy(log_probs),
        ensemble_signals.mutual_information(log_probs),
    )
    np.testing.assert_allclose(entropy, total, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mi, np.maximum(total - own, 0), rtol=1e-9, atol=1e-12)
    members, _, classes = log_probs.shape
    slack = 1e-12
    assert (mi >= 0).all()
    assert (mi <= np.minimum(entropy, math.log(members)) + slack).all()
    assert (entropy <= math.log(classes) + slack).all()


@given(log_probs=predictions(), data=st.data())
def test_disagreement_ignores_the_order_of_members_classes_and_other_samples(log_probs, data):
    order = [data.draw(st.permutations(range(n))) for n in log_probs.shape]
    for function in (ensemble_signals.mixture_entropy, ensemble_signals.mutual_information):
        moved = function(log_probs[np.ix_(*order)])
        np.testing.assert_allclose(moved, function(log_probs)[order[1]], rtol=1e-9, atol=1e-12)
        doubled = function(np.concatenate([log_probs, log_probs]))
        np.testing.assert_allclose(doubled, function(log_probs), rtol=1e-9, atol=1e-12)
        tensors = function(torch.tensor(log_probs))
        np.testing.assert_array_equal(tensors.numpy(), function(log_probs))


@pytest.mark.parametrize("members", [1, 2, 3, 20])
def test_identical_members_do_not_disagree_whatever_is_rounded(members):
    one = log_softmax(np.random.default_rng(0).standard_normal((1, 500, 10)) * 5, axis=2)
    same = np.repeat(one, members, axis=0)
    raw = ensemble_signals.mutual_information(same)
    assert (raw >= 0).all()
    np.testing.assert_allclose(raw, 0, atol=1e-13)
    if members > 2:  # the cut is needed
        mean = logsumexp(same, axis=0) - np.log(members)
        naive = (np.exp(same) * same).sum(axis=2).mean(axis=0) - (np.exp(mean) * mean).sum(axis=1)
        assert (naive < 0).any()


def test_only_rounding_is_cut_off():
    cut = ensemble_signals._not_below_zero(
        torch.tensor([-1e-10, -1e-3, 0.0, 0.2], dtype=torch.float64)
    )
    assert cut.tolist() == [0.0, -1e-3, 0.0, 0.2]


def test_members_that_are_sure_of_different_classes_disagree_in_all_they_know():
    """Three of four classes, each with probability one: 0 ln 0 counts as 0."""
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.eye(4)[:3, None])
    assert ensemble_signals.mixture_entropy(log_probs).tolist() == pytest.approx([math.log(3)])
    assert ensemble_signals.mutual_information(log_probs).tolist() == pytest.approx([math.log(3)])
    undecided = np.full((3, 1, 4), -math.log(4))
    assert ensemble_signals.mixture_entropy(undecided).tolist() == pytest.approx([math.log(4)])
    assert ensemble_signals.mutual_information(undecided).tolist() == pytest.approx(
        [0.0], abs=1e-15
    )


@pytest.mark.parametrize("block", [1, 30])
def test_disagreement_in_blocks_and_with_a_nan(monkeypatch, block):
    log_probs = log_softmax(np.random.default_rng(0).standard_normal((3, 9, 4)), axis=2)
    for function in (ensemble_signals.mixture_entropy, ensemble_signals.mutual_information):
        whole = function(log_probs)
        spoiled = log_probs.copy()
        spoiled[1, 4, 2] = np.nan
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "_CPU_BLOCK", block)
            raw = function(spoiled)
        assert np.isnan(raw).nonzero()[0].tolist() == [4]
        np.testing.assert_array_equal(np.delete(raw, 4), np.delete(whole, 4))


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 3)])
def test_predictions_of_another_shape_are_refused(shape):
    for function in (ensemble_signals.mixture_entropy, ensemble_signals.mutual_information):
        with pytest.raises(ValueError, match="at least one member; got shape"):
            unchecked(function)(np.zeros(shape))
