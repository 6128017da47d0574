"""What regimens of several networks share: folds of the samples, equal starts, epochs in step."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hardness import signals
from hardness.datasets import Dataset
from hardness.models import Network, build
from hardness.options import Augmentation, ModelOptions
from hardness.seeding import Streams
from hardness.training.classification import train_epoch
from hardness.training.options import TrainOptions
from hardness.training.pixels import Pixels


def deal(labels: Int64[Tensor, " samples"], folds: int, seed: int) -> Int64[Tensor, " samples"]:
    """The fold of each sample, from 0: the samples of each class dealt out in random order.

    The folds differ by at most one sample, in all and in every class. Regimens that are given the
    same seed and number of folds get the same folds.

    Args:
        labels: Whose classes are dealt out evenly.
        folds: How many.
        seed: Of the deal.

    Example:
        >>> fold = deal(torch.tensor([0, 0, 0, 0, 1, 1]), folds=2, seed=0)
        >>> fold[:4].sum().item(), fold[4:].sum().item()
        (2, 1)
    """
    shuffled = torch.randperm(
        len(labels), generator=Streams(seed=seed, salt="halves").generator("order")
    )
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[by_class] = torch.arange(len(labels)) % folds
    return fold


def alike(
    count: int, model: ModelOptions, dataset: Dataset, streams: Streams, device: torch.device
) -> list[Network]:
    """So many networks that start from the same weights.

    Args:
        count: How many.
        model: Of each.
        dataset: Whose images and classes they are for.
        streams: Of the run.
        device: Where to put them.
    """
    shape, n_classes = dataset.train.images.shape[1:], len(dataset.classes)
    return [
        build(model, image_shape=shape, n_classes=n_classes, streams=streams).to(device)
        for _ in range(count)
    ]


def train_in_step(
    forwards: Sequence[Callable[[Tensor], Tensor]],
    optimizer: torch.optim.Optimizer,
    pixels: Pixels,
    labels: Int64[Tensor, " samples"],
    orders: Sequence[Int64[Tensor, " _"]],
    *,
    dropout_seed: int,
    augmentation: Augmentation,
    parameters: Float[Tensor, "samples parameters"],
    options: TrainOptions,
    epoch: int,
    epochs: int,
) -> dict[str, float]:
    """One epoch of several networks, each on rows of its own; they drop the same units.

    Args:
        forwards: Networks in training mode, or what ``torch.compile`` made of them.
        optimizer: One for all of them: of a network that does not train it finds no gradients.
        pixels: Of all samples.
        labels: Of all samples.
        orders: For each network the rows to present, in this order.
        dropout_seed: Seeds torch before each network.
        augmentation: Of the images.
        parameters: Its draw, one row a sample.
        options: Batch size, learning rate, precision.
        epoch: 0-based, counted from where the learning rate's schedule starts.
        epochs: Length of that schedule.

    Returns:
        ``train_loss`` and ``train_accuracy`` of all presentations, ``lr`` of the first step.
    """
    losses, right = [], []
    for forward, order in zip(forwards, orders, strict=True):
        torch.manual_seed(dropout_seed)
        presented = train_epoch(
            forward,
            optimizer,
            pixels,
            labels,
            order,
            augmentation=augmentation,
            parameters=parameters,
            options=options,
            epoch=epoch,
            epochs=epochs,
        )
        losses.append(presented.loss)
        right.append(signals.correct_from_logits(presented.logits, labels[order]).sum())
    presentations = sum(map(len, orders))
    return {
        "train_loss": sum(loss.item() for loss in losses) / presentations,
        "train_accuracy": sum(count.item() for count in right) / presentations,
        "lr": presented.lr,
    }
