"""Evaluate a classifier on clean images: embeddings, logits, validation loss and accuracy."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness.models.networks import Network
from hardness.signals import logits as logit_signals
from hardness.training.pixels import Pixels

# Fewest classes for which top-5 accuracy is reported.
TOP5_CLASSES = 10


class Evaluation(NamedTuple):
    """Outputs of a network for clean images: one row per sample, float32."""

    emb: Tensor
    logits: Tensor


@torch.inference_mode()
def evaluate(
    network: Network, pixels: Pixels, rows: Int64[Tensor, " rows"] | None = None
) -> Evaluation:
    """Embeddings and logits of clean images in eval mode, of all rows if ``rows`` is left out."""
    network.eval()
    parts = []
    for unit in pixels.blocks(rows):
        emb = network.encoder(pixels.normalize(unit))
        parts.append((emb, network.head(emb)))
    return Evaluation(*(torch.cat(column).float() for column in zip(*parts, strict=True)))


def validate(
    network: Network, held_out: Pixels, labels: Int64[Tensor, " held"]
) -> dict[str, float]:
    """Loss and accuracy on the validation samples; from 10 classes on, top-5 accuracy too."""
    logits = evaluate(network, held_out).logits
    found = {
        "val_loss": cross_entropy(logits.double(), labels).item(),
        "val_accuracy": accuracy(logits, labels),
    }
    if logits.shape[1] >= TOP5_CLASSES:
        found["val_accuracy_top5"] = within_top(logits, labels, 5).double().mean().item()
    return found


def accuracy(logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"]) -> float:
    """Share of rows whose largest logit belongs to the label."""
    return logit_signals.correct_from_logits(logits, labels).double().mean().item()


def within_top(
    logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"], count: int
) -> Bool[Tensor, " rows"]:
    """Whether the label is among the ``count`` largest logits of a row.

    Among equal logits the lower class comes first, as in ``correct_from_logits``. A row with a NaN
    is wrong. Arguments are not checked, since a check would make the GPU wait.

    Example:
        >>> logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1]])
        >>> within_top(logits, torch.tensor([4, 5]), 5)
        tensor([ True, False])
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    before = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    return (before.sum(1) < count) & ~logits.isnan().any(1)
