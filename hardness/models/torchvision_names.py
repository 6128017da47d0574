"""Names of torchvision's classifiers and of their pretrained weights."""

from pathlib import Path
from typing import Any

import torch
import torchvision


def classifiers() -> list[str]:
    """Names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def weights_of(name: str, pretrained: bool | str) -> Any:
    """Weights of a network, as torchvision's enum member; the best if ``pretrained`` is True.

    Raises:
        ValueError: If the network is not torchvision's, or has no such weights.
    """
    if name not in classifiers():
        raise ValueError(f"pretrained: expected only with torchvision's classifiers; got {name}")
    known = torchvision.models.get_model_weights(name)
    if pretrained is True:
        return known.DEFAULT
    if pretrained not in known.__members__:
        raise ValueError(
            f"pretrained: unknown weights {pretrained!r} of {name}; known: true, "
            f"{', '.join(known.__members__)}"
        )
    return known[pretrained]


def weights_file(name: str, pretrained: bool | str) -> Path:
    """Path of pretrained weights in torch.hub's folder, which may not exist yet."""
    url = weights_of(name, pretrained).url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
