"""Build networks by name, new or pretrained, each split into an encoder and a linear head."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from hardness.files import one_line
from hardness.models.options import ModelOptions
from hardness.models.torchvision_names import weights_of
from hardness.seeding import Streams


class Network(nn.Module):
    """An encoder and a linear head; the encoder's output is the embedding."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def width(self) -> int:
        """Number of units of the embedding."""
        return self.head.in_features

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Logits ``[batch, classes]``."""
        return self.head(self.encoder(x))


def build(
    options: ModelOptions, *, image_shape: Sequence[int], n_classes: int, streams: Streams
) -> Network:
    """A network on the CPU; weights that are not pretrained come from the ``weights`` stream.

    Args:
        options: Name and sizes of the network.
        image_shape: Channels, height and width.
        n_classes: Number of classes, the width of the head.
        streams: Random streams of the run.

    Raises:
        ValueError: If the images do not fit the network, or pretrained weights cannot be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("weights"))
        if options.name in _BUILDERS:
            return _BUILDERS[options.name](options, image_shape, n_classes)
        return _torchvision(options, image_shape, n_classes)


def fetch(options: ModelOptions) -> Mapping[str, Tensor]:
    """Pretrained weights from torch.hub's folder; missing ones are downloaded into it.

    Raises:
        ValueError: If the weights are damaged, or missing and cannot be downloaded.
    """
    weights = weights_of(options.name, options.pretrained or True)
    where = f"{options.name}: expected the weights {weights.name} at {options.weights_file}"
    try:
        return torch.hub.load_state_dict_from_url(
            weights.url, progress=False, check_hash=True, weights_only=True
        )
    except OSError as error:
        # Without a network, every further attempt would fail too: so this must not be retried.
        raise ValueError(f"{where}, or a network to fetch them; got {error}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{where} to be whole; got {reason}") from error


def _mlp(options: ModelOptions, image_shape: Sequence[int], n_classes: int) -> Network:
    channels, height, width = image_shape
    units = options.width or 128
    encoder = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, units),
        nn.ReLU(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Dropout(options.dropout),
    )
    return Network(encoder, nn.Linear(units, n_classes))


def _small_cnn(options: ModelOptions, image_shape: Sequence[int], n_classes: int) -> Network:
    first = options.width or 16
    channels = (image_shape[0], first, 2 * first, 4 * first)
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(options.dropout)]
    return Network(nn.Sequential(*layers), nn.Linear(channels[-1], n_classes))


def _resnet18_cifar(_options: ModelOptions, image_shape: Sequence[int], n_classes: int) -> Network:
    network = torchvision.models.resnet18(num_classes=n_classes)
    # On 32 pixels, the ImageNet stem would leave only one pixel for the last stage.
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return _split(network, "resnet18_cifar", n_classes)


def _torchvision(options: ModelOptions, image_shape: Sequence[int], n_classes: int) -> Network:
    name = options.name
    if image_shape[0] != 3:  # noqa: PLR2004
        raise ValueError(f"{name}: expected images of 3 channels; got {image_shape[0]}")
    arguments: dict[str, Any] = {"num_classes": n_classes}
    if name in _AUXILIARY:
        arguments |= {"aux_logits": False, "init_weights": True}
    if not options.pretrained:
        return _split(torchvision.models.get_model(name, **arguments), name, n_classes)
    known = len(weights_of(options.name, options.pretrained or True).meta["categories"])
    arguments |= {"num_classes": known}
    if name in _AUXILIARY:
        arguments |= {"transform_input": True}
    network = torchvision.models.get_model(name, **arguments)
    _load(network, fetch(options), options)
    split = _split(network, name, known)
    if n_classes == known:
        return split
    return Network(split.encoder, nn.Linear(split.width, n_classes))


def _load(network: nn.Module, state: Mapping[str, Tensor], options: ModelOptions) -> None:
    kept = {k: v for k, v in state.items() if not k.lower().startswith("aux")}
    try:
        network.load_state_dict(kept)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{options.weights_file}: expected weights of {options.name}; got {one_line(error)}"
        ) from error


def _split(network: nn.Module, name: str, n_classes: int) -> Network:
    """Split the last linear layer off a classifier, as the head."""
    linear = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear or linear[-1][1].out_features != n_classes:
        raise ValueError(f"{name}: expected a classifier that ends in a linear layer; got none")
    path, head = linear[-1]
    network.set_submodule(path, nn.Identity())
    return Network(network, head)


# In training mode, auxiliary heads would make these networks return tuples.
_AUXILIARY = ("googlenet", "inception_v3")
_BUILDERS: dict[str, Callable[[ModelOptions, Sequence[int], int], Network]] = {
    "mlp": _mlp,
    "small_cnn": _small_cnn,
    "resnet18_cifar": _resnet18_cifar,
}
