"""Networks: every name gives an encoder and a head, drawn from the weights stream alone."""

import re

import pytest
import torch
import torchvision
from torch import nn

from hardness.models.networks import build, fetch
from hardness.models.options import ModelOptions
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
    chosen = ModelOptions(name=name, **options)
    return build(chosen, image_shape=shape, n_classes=n_classes, streams=streams)


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
        ({"name": "mlp", "width": 0}, "width: expected at least 1, for mlp or small_cnn; got 0"),
        ({"name": "resnet18", "width": 64}, "got 64 for resnet18"),
        ({"dropout": 1.0}, r"dropout: expected a share in \[0, 1\); got 1.0"),
        ({"dropout": float("nan")}, "dropout: .* got nan"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ModelOptions(**options)


def test_what_does_not_fit_a_classifier_is_said():
    with pytest.raises(ValueError, match="resnet18: expected images of 3 channels; got 1"):
        network("resnet18", (1, 32, 32))
    with pytest.raises(ValueError, match="squeezenet1_1: expected a classifier that ends in a lin"):
        network("squeezenet1_1", (3, 32, 32))


class TestPretrained:
    """With weights that the test itself puts where torch.hub looks: there is no network here."""

    @pytest.fixture
    def weights(self, tmp_path, monkeypatch):
        """Weights of a torchvision network for its 1000 classes, in torch.hub's folder."""
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))

        def stored(name, **options):
            with torch.random.fork_rng():
                torch.manual_seed(77)
                state = torchvision.models.get_model(name, **options).state_dict()
            file = ModelOptions(name=name, pretrained=True).weights_file
            assert file.parent == tmp_path / "hub" / "checkpoints"
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, file)
            return state

        return stored

    def test_another_number_of_classes_keeps_the_encoder_and_draws_the_head(self, weights):
        state = weights("resnet18")
        built = network("resnet18", (3, 32, 32), n_classes=7, pretrained=True)
        found = {k.removeprefix("encoder."): v for k, v in built.state_dict().items()}
        assert found["head.weight"].shape == (7, 512)
        assert {k for k in state if not k.startswith("fc.")} == {
            k for k in found if k[:4] != "head"
        }
        assert all(found[k].equal(v) for k, v in state.items() if not k.startswith("fc."))
        again = network("resnet18", (3, 32, 32), n_classes=7, pretrained=True)
        other = network("resnet18", (3, 32, 32), n_classes=7, pretrained=True, seed=1)
        assert again.head.weight.equal(built.head.weight)
        assert not other.head.weight.equal(built.head.weight)
        assert other.encoder.conv1.weight.equal(built.encoder.conv1.weight)

    def test_a_thousand_classes_keep_the_head(self, weights):
        state = weights("resnet18")
        built = network("resnet18", (3, 32, 32), n_classes=1000, pretrained=True).eval()
        whole = torchvision.models.resnet18()
        whole.load_state_dict(state)
        x = images((3, 32, 32))
        assert torch.equal(built(x), whole.eval()(x))

    def test_auxiliary_heads_of_the_weights_are_dropped(self, weights):
        weights("googlenet", init_weights=True, aux_logits=True)
        built = network("googlenet", (3, 64, 64), n_classes=7, pretrained=True)
        assert_splits(built, (3, 64, 64), 1024, n_classes=7)
        # Its weights were trained on images that the network itself shifts and scales.
        assert built.encoder.transform_input

    def test_it_means_the_best_weights_by_name(self):
        best = ModelOptions(name="resnet50", pretrained=True)
        assert best.named() == ModelOptions(name="resnet50", pretrained="IMAGENET1K_V2")
        assert best.weights_file == best.named().weights_file
        older = ModelOptions(name="resnet50", pretrained="IMAGENET1K_V1")
        assert older.named() == older
        assert older.weights_file.name == "resnet50-0676ba61.pth"
        fresh = ModelOptions(name="resnet50")
        assert ModelOptions(name="resnet50", pretrained=False).named() == fresh.named() == fresh

    def test_weights_that_cannot_be_had_are_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        # Nothing answers at this address, on a machine with a network as on one without.
        monkeypatch.setattr(
            torch.hub, "urlopen", lambda *_a, **_k: (_ for _ in ()).throw(OSError("no route"))
        )
        file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
        message = (
            f"resnet18: expected the weights IMAGENET1K_V1 at {file}, or a network to fetch them; "
            "got no route"
        )
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            network("resnet18", (3, 32, 32), pretrained=True)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
    def test_damaged_weights_are_one_line(self, tmp_path, monkeypatch, content):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        options = ModelOptions(name="resnet18", pretrained=True)
        options.weights_file.parent.mkdir(parents=True)
        options.weights_file.write_bytes(content)
        with pytest.raises(ValueError, match=r"resnet18-f37072fd.pth to be whole; ") as caught:
            fetch(options)
        assert "\n" not in str(caught.value)

    def test_weights_of_another_network_are_refused(self, weights):
        state = weights("resnet34")
        file = ModelOptions(name="resnet18", pretrained=True).weights_file
        torch.save(state, file)
        with pytest.raises(
            ValueError,
            match=r"resnet18-f37072fd.pth: expected weights of resnet18; got RuntimeError",
        ):
            network("resnet18", (3, 32, 32), pretrained=True)

    def test_a_pickle_is_not_run(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        options, mark = ModelOptions(name="resnet18", pretrained=True), tmp_path / "run"
        options.weights_file.parent.mkdir(parents=True)
        torch.save({"x": Touches(mark)}, options.weights_file)
        with pytest.raises(ValueError, match="to be whole"):
            fetch(options)
        assert not mark.exists()
        torch.load(options.weights_file, weights_only=False)
        assert mark.exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "mlp", "pretrained": True}, "pretrained: expected only with torchvision's"),
            (
                {"name": "resnet18", "pretrained": "V9"},
                "pretrained: unknown weights 'V9' of resnet18; known: true, IMAGENET1K_V1",
            ),
        ],
    )
    def test_what_cannot_be_pretrained_is_refused(self, options, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            ModelOptions(**options)


class Touches:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))
