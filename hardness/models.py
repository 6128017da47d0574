"""Networks by name, each split into an encoder and a linear head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from hardness.seeding import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What an experiment file says under ``model:``.

    Args:
        name: ``mlp``, ``small_cnn``, ``resnet18_cifar`` or a torchvision classifier's name.
        width: Units of the hidden layers (``mlp``, default 128) or channels of the first
            convolution (``small_cnn``, default 16); the others have none.
        dropout: Share of units dropped before the head of ``mlp`` and ``small_cnn``.

    Raises:
        ValueError: If the name is unknown or a number is out of range.
    """

    name: str = "small_cnn"
    width: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        known = (*_OWN, *torchvision.models.list_models(module=torchvision.models))
        if self.name not in known:
            raise ValueError(
                f"unknown model {self.name!r}; known: {', '.join(_OWN)} "
                "and torchvision's classifiers such as resnet50"
            )
        if self.width is not None and (self.width < 1 or self.name not in ("mlp", "small_cnn")):
            raise ValueError(
                f"width: expected at least 1, for mlp or small_cnn; came {self.width} "
                f"for {self.name}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected a share in [0, 1); came {self.dropout}")


class Network(nn.Module):
    """An encoder and a linear head; the encoder's output is the embedding."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def width(self) -> int:
        """Units of the embedding."""
        return self.head.in_features

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Logits ``[batch, classes]``."""
        return self.head(self.encoder(x))


def build(
    options: ModelOptions, *, image_shape: Sequence[int], n_classes: int, streams: Streams
) -> Network:
    """A fresh network on the CPU, its weights drawn from the ``weights`` stream.

    Args:
        options: Name and sizes.
        image_shape: Channels, height and width.
        n_classes: Width of the head.
        streams: The run's random streams.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("weights"))
        if options.name in _OWN:
            return _OWN[options.name](options, image_shape, n_classes)
        return _torchvision(options.name, image_shape, n_classes)


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
    # At 32 pixels the ImageNet stem would leave a single pixel for the last stage.
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return _split(network, "resnet18_cifar", n_classes)


def _torchvision(name: str, image_shape: Sequence[int], n_classes: int) -> Network:
    if image_shape[0] != 3:  # noqa: PLR2004
        raise ValueError(f"{name}: expected images of 3 channels; came {image_shape[0]}")
    options = {"num_classes": n_classes}
    if name in _AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    return _split(torchvision.models.get_model(name, **options), name, n_classes)


def _split(network: nn.Module, name: str, n_classes: int) -> Network:
    """Take the last linear layer off a classifier and make it the head."""
    linear = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linear or linear[-1][1].out_features != n_classes:
        raise ValueError(f"{name}: expected a classifier that ends in a linear layer")
    path, head = linear[-1]
    network.set_submodule(path, nn.Identity())
    return Network(network, head)


# In training their auxiliary heads would return tuples instead of an embedding.
_AUXILIARY = ("googlenet", "inception_v3")

_OWN: dict[str, Callable[[ModelOptions, Sequence[int], int], Network]] = {
    "mlp": _mlp,
    "small_cnn": _small_cnn,
    "resnet18_cifar": _resnet18_cifar,
}
