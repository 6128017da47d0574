"""Training on one half of the samples, then on the other, while watching what is forgotten."""

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
    """Train on half A, then on half B alone; a second network, in step, on B and then on A.

    Both networks start from the same weights and drop the same units, so that they differ in
    their samples alone. At the switch each gets a fresh optimizer and the schedule starts again.
    After every epoch each sample is evaluated, clean and in eval mode, by the network that saw it
    first.

    Signals: ``correct_first_split`` in the epochs on the first half, ``correct_second_split`` in
    those on the second; no epoch has both. Snapshot of the last epoch, whatever else is recorded:
    ``fold``, 0 for half A and 1 for half B. The summary's ``train_loss`` and ``train_accuracy``
    are those of the presentations themselves, ``val_loss`` and ``val_accuracy`` the mean of the
    two networks, ``lr`` the rate of the epoch's first step.

    Raises:
        Diverged: If loss or logits leave the finite numbers.
        ValueError: If there are fewer than two samples to split.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_SecondSplit, setup, resume)


class _SecondSplit:
    """Two networks, each trained on the half of its number and then on the other half."""

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
