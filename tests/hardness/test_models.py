"""Networks: every name gives an encoder and a head, drawn from the weights stream alone."""

import re

import pytest
import torch
from torch import nn

from hardness.models import ModelOptions, build
from hardness.seeding import Streams

OWN = ("mlp", "small_cnn", "resnet18_cifar")
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Two threads for so little work would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(name="small_cnn", shape=(1, 8, 8), seed=0, n_classes=10, vary=None, **options):
    streams = Streams(seed=seed) if vary is None else Streams(seed=seed, vary=vary)
    options = ModelOptions(name=name, **options)
    return build(options, image_shape=shape, n_classes=n_classes, streams=streams)


def images(shape, n=2):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def assert_splits(built, shape, width, n_classes=10):
    x = images(shape)
    for mode in (built.eval(), built.train()):
        assert mode(x).shape == (2, n_classes)
    built.eval()
    emb = built.encoder(x)
    assert emb.shape == (2, built.width)
    assert built.width == width
    assert torch.equal(built.head(emb), built(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "width"), [("mlp", 128), ("small_cnn", 64)])
def test_small_networks_split_into_encoder_and_head(name, width, shape):
    assert_splits(network(name, shape), shape, width)


@pytest.mark.parametrize("shape", SHAPES)
def test_resnet18_cifar_takes_small_images_grey_or_not(shape):
    assert_splits(network("resnet18_cifar", shape), shape, 512)


def test_resnet18_cifar_keeps_four_pixels_a_side_for_the_last_stage():
    built = network("resnet18_cifar", (3, 32, 32))
    sides = []
    built.encoder.layer4.register_forward_hook(lambda *call: sides.append(call[2].shape[2:]))
    built.eval()(images((3, 32, 32)))
    assert sides == [(4, 4)]


@pytest.mark.parametrize(
    ("name", "width"), [("mobilenet_v3_small", 1024), ("resnet18", 512), ("googlenet", 1024)]
)
def test_a_torchvision_classifier_is_split_before_its_last_layer(name, width):
    assert_splits(network(name, (3, 64, 64), n_classes=7), (3, 64, 64), width, n_classes=7)


def test_width_sets_the_hidden_layers():
    assert network("mlp", width=5).width == 5
    assert network("small_cnn", width=5).width == 20


@pytest.mark.parametrize("name", [*OWN, "mobilenet_v3_small"])
def test_weights_follow_their_stream(name):
    def weights(**options):
        return network(name, (3, 32, 32), **options).state_dict()

    first, again, other = weights(), weights(), weights(seed=1)
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.items())
    held = [weights(seed=seed, vary=("order",)) for seed in (0, 1)]
    assert all(torch.equal(tensor, held[1][key]) for key, tensor in held[0].items())


@pytest.mark.parametrize("name", [*OWN, "mobilenet_v3_small"])
def test_building_leaves_the_global_generator_alone(name):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    network(name, (3, 32, 32))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_units_are_dropped_in_training_alone(name):
    built, x = network(name), images((1, 8, 8), 32)
    (layer,) = [m for m in built.encoder.modules() if isinstance(m, nn.Dropout)]
    assert layer.p == 0.1
    built.train()
    assert not torch.equal(built(x), built(x))
    built.eval()
    assert torch.equal(built(x), built(x))


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_dropout_can_be_turned_off(name):
    built, x = network(name, dropout=0.0).train(), images((1, 8, 8), 32)
    assert torch.equal(built(x), built(x))


def test_an_unknown_name_lists_the_known():
    message = (
        "unknown model 'resnet19'; known: mlp, small_cnn, resnet18_cifar and torchvision's "
        "classifiers such as resnet50"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        ModelOptions(name="resnet19")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mlp", "width": 0}, "width: expected at least 1, for mlp or small_cnn; came 0"),
        ({"name": "resnet18", "width": 64}, "came 64 for resnet18"),
        ({"dropout": 1.0}, r"dropout: expected a share in \[0, 1\); came 1.0"),
        ({"dropout": float("nan")}, "dropout: .* came nan"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ModelOptions(**options)


def test_what_does_not_fit_a_classifier_is_said():
    with pytest.raises(ValueError, match="resnet18: expected images of 3 channels; came 1"):
        network("resnet18", (1, 32, 32))
    with pytest.raises(ValueError, match="squeezenet1_1: expected a classifier that ends in a lin"):
        network("squeezenet1_1", (3, 32, 32))
