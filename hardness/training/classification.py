"""A clean evaluation of a classifier: embeddings, logits, and what they say of the validation."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness.models.networks import Network
from hardness.signals import logits as logit_signals
from hardness.training.pixels import Pixels

# Classes from which on the top 5 say something.
TOP5_CLASSES = 10


class Evaluation(NamedTuple):
    """What a network makes of clean images, one row a sample, float32."""

    emb: Tensor
    logits: Tensor


@torch.inference_mode()
def evaluate(
    network: Network, pixels: Pixels, rows: Int64[Tensor, " rows"] | None = None
) -> Evaluation:
    """Embeddings and logits of these rows, of all if left out: clean images, in eval mode."""
    network.eval()
    parts = []
    for unit in pixels.blocks(rows):
        emb = network.encoder(pixels.normalize(unit))
        parts.append((emb, network.head(emb)))
    return Evaluation(*(torch.cat(column).float() for column in zip(*parts, strict=True)))


def validate(
    network: Network, held_out: Pixels, labels: Int64[Tensor, " held"]
) -> dict[str, float]:
    """Loss and accuracy on the validation samples; of 10 classes or more also that of the top 5."""
    logits = evaluate(network, held_out).logits
    found = {
        "val_loss": cross_entropy(logits.double(), labels).item(),
        "val_accuracy": accuracy(logits, labels),
    }
    if logits.shape[1] >= TOP5_CLASSES:
        found["val_accuracy_top5"] = within_top(logits, labels, 5).double().mean().item()
    return found


def accuracy(logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"]) -> float:
    """Share of rows whose largest logit is the label's."""
    return logit_signals.correct_from_logits(logits, labels).double().mean().item()


def within_top(
    logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"], count: int
) -> Bool[Tensor, " rows"]:
    """Whether the label is among so many largest logits of a row.

    Of equal logits the lower class comes first, as in ``signals.correct``; a row with a NaN is
    wrong. Unlike there nothing is checked, so that a step on a GPU waits for nothing.

    Example:
        >>> logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1]])
        >>> within_top(logits, torch.tensor([4, 5]), 5)
        tensor([ True, False])
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    before = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    return (before.sum(1) < count) & ~logits.isnan().any(1)
