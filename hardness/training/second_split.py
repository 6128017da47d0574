"""Train on one half of the samples, then on the other, and record what is forgotten."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hardness.data.datasets import Dataset
from hardness.dynamics.checkpoint import Checkpoint
from hardness.dynamics.record import EpochRecord, Recording
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.training.classification import evaluate, validate
from hardness.training.folds import Folds
from hardness.training.loop import Evaluated, Setup, Trained, train
from hardness.training.optimization import check_finite
from hardness.training.options import HALVES, SecondSplit


def second_split(
    dataset: Dataset,
    model: ModelOptions,
    options: SecondSplit,
    streams: Streams,
    *,
    device: torch.device | str = "cpu",
    recording: Recording | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[EpochRecord]:
    """Train a network on half A, then only on half B; train a second one on B, then only on A.

    Both networks start from the same weights and drop the same units, so they differ only in their
    samples. At the switch, the optimizer and the schedule start again. After every epoch, each
    sample is evaluated by the network that trained on it first, on clean images in eval mode.

    Signals: ``correct_first_split`` in the epochs on the first half, ``correct_second_split`` in
    those on the second; no epoch has both. The snapshot ``fold`` of the last epoch, 0 for half A
    and 1 for half B, is always recorded. In the summary, ``train_loss`` and ``train_accuracy`` are
    taken during training, ``val_loss`` and ``val_accuracy`` are means over the two networks, and
    ``lr`` is the rate of the epoch's first step.

    Raises:
        Diverged: If loss or logits are no longer finite.
        ValueError: If there are fewer than two samples to split.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_SecondSplit, setup, resume)


class _SecondSplit:
    """Two networks: network 0 trains on half 0 first, network 1 on half 1."""

    def __init__(self, setup: Setup[SecondSplit]) -> None:
        n = len(setup.dataset.train)
        if n < HALVES:
            raise ValueError(f"second_split: expected at least {HALVES} samples to split; got {n}")
        self.halves = Folds(setup, HALVES)
        self.networks, self.pixels = self.halves.networks, self.halves.pixels
        self.loss = self.halves.loss
        self.recording, self.switch = setup.recording, setup.options.train.max_epochs

    def start(self, _resume: Checkpoint) -> Evaluated:
        return Evaluated()

    def orders(self, order: Tensor, epoch: int) -> list[Tensor]:
        halves = (0, 1) if epoch < self.switch else (1, 0)
        return [order[self.halves.of_sample[order] == half] for half in halves]

    def evaluate(self, trained: Trained) -> Evaluated:
        halves, labels = self.halves, self.halves.labels
        correct = torch.empty_like(labels, dtype=torch.bool)
        for network, seen_first in zip(halves.networks, halves.rows, strict=True):
            logits = evaluate(network, halves.pixels, seen_first).logits
            total = logits.sum(dtype=torch.float64).item()
            check_finite(total, "the sum of logits", trained.epoch)
            correct[seen_first] = logit_signals.correct_from_logits(logits, labels[seen_first])
        validations = [
            validate(network, halves.held_out, halves.held_out_labels)
            for network in halves.networks
        ]
        half = "first" if trained.epoch < self.switch else "second"
        recorded = {f"correct_{half}_split": correct.cpu().numpy()}
        return Evaluated(
            signals=recorded if self.recording.signals else {},
            summary=halves.summary(trained, validations),
            snapshots={"fold": halves.of_sample.numpy().astype(np.int32)} if trained.last else {},
        )
