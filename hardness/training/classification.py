"""What regimens that train a classifier share: one epoch of steps, and a clean evaluation."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness import signals
from hardness.augmentation import augment
from hardness.models import Network
from hardness.options import Augmentation
from hardness.training.optimization import autocast, batches, learning_rate
from hardness.training.options import TrainOptions
from hardness.training.pixels import Pixels

# Classes from which on the top 5 say something.
TOP5_CLASSES = 10


class Evaluation(NamedTuple):
    """What a network makes of clean images, one row a sample, float32."""

    emb: Tensor
    logits: Tensor


class Presentations(NamedTuple):
    """What one epoch of training saw.

    ``loss`` is the sum over the samples of their batch's mean loss; ``logits`` stand in the order
    in which the samples were presented; ``lr`` is the learning rate of the first step.
    """

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "presented classes"]
    lr: float


def train_epoch(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    labels: Int64[Tensor, " samples"],
    order: Int64[Tensor, " presented"],
    *,
    augmentation: Augmentation,
    parameters: Float[Tensor, "samples parameters"],
    options: TrainOptions,
    epoch: int,
    epochs: int,
) -> Presentations:
    """One epoch of cross-entropy steps; the caller has seeded the dropout.

    Args:
        forward: A network in training mode, or what ``torch.compile`` made of it.
        optimizer: Over its parameters; parameters of other networks get no gradient and stay.
        pixels: Of all samples.
        labels: Of all samples.
        order: Rows to present, in this order.
        augmentation: Of the images.
        parameters: Its draw, one row a sample.
        options: Batch size, learning rate, precision.
        epoch: 0-based, counted from where the learning rate's schedule starts.
        epochs: Length of that schedule.
    """
    presented = batches(order, options.batch_size)
    steps = len(presented)
    total = torch.zeros((), dtype=torch.float64, device=labels.device)
    found = []
    for step, (batch, unit) in enumerate(pixels.units(presented), epoch * steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, epochs * steps, options)
        images = augment(augmentation, unit, parameters[batch])
        with autocast(options, labels.device):
            logits = forward(pixels.normalize(images))
        loss = cross_entropy(logits.float(), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        found.append(logits.detach().float())
        total += loss.detach().double() * len(batch)
    first_lr = learning_rate(epoch * steps, epochs * steps, options)
    return Presentations(loss=total, logits=torch.cat(found), lr=first_lr)


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
        found["val_accuracy_top5"] = accuracy_top5(logits, labels)
    return found


def accuracy(logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"]) -> float:
    """Share of rows whose largest logit is the label's."""
    return signals.correct_from_logits(logits, labels).double().mean().item()


def accuracy_top5(logits: Float[Tensor, "rows classes"], labels: Int64[Tensor, " rows"]) -> float:
    """Share of rows in which the label is among the 5 largest logits.

    Of equal logits the lower class comes first, as in ``accuracy``; a row with a NaN counts as
    wrong.

    Example:
        >>> logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [1, 1, 1, 1, 1, 1]])
        >>> accuracy_top5(logits, torch.tensor([4, 5]))
        0.5
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    before = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    within = (before.sum(1) < 5) & ~logits.isnan().any(1)  # noqa: PLR2004 - the top 5
    return within.double().mean().item()
