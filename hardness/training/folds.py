"""Folds of the samples with one network each, shared by regimens of several networks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness.seeding import Streams
from hardness.training.classification import within_top
from hardness.training.loop import Setup, Trained
from hardness.training.options import CrossFit, SecondSplit


def deal(labels: Int64[Tensor, " samples"], folds: int, seed: int) -> Int64[Tensor, " samples"]:
    """The fold of each sample, from 0, with each class spread evenly over the folds at random.

    The sizes of two folds differ by at most one sample, in total and in every class. All regimens
    with the same seed and number of folds get the same folds.

    Args:
        labels: Label of every sample.
        folds: Number of folds.
        seed: Seed of the random order.

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


class Folds:
    """The samples in ``count`` folds, and one network per fold; all start from the same weights."""

    def __init__(self, setup: Setup[CrossFit] | Setup[SecondSplit], count: int) -> None:
        self.networks = [setup.network() for _ in range(count)]
        self.pixels, self.held_out = setup.pixels()
        self.labels, self.held_out_labels = setup.labels()
        self.of_sample = deal(setup.dataset.train.labels, count, setup.options.split_seed)
        folds = [(self.of_sample == fold).nonzero()[:, 0] for fold in range(count)]
        self.rows = [rows.to(setup.device) for rows in folds]

    def loss(self, logits: Tensor, _images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch as in ``Learner``, and which of its samples are classified right."""
        labels = self.labels[rows]
        return cross_entropy(logits, labels), within_top(logits.detach(), labels, 1)

    @staticmethod
    def summary(trained: Trained, validations: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Loss and accuracy during the epoch, and validation results averaged over networks."""
        right = torch.cat([*trained.kept])
        return {
            "train_loss": trained.loss,
            "train_accuracy": right.sum().item() / len(right),
            "lr": trained.lr,
            **{k: float(np.mean([one[k] for one in validations])) for k in validations[0]},
        }
