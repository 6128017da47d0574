"""Training on one half of the samples, then on the other, while watching what is forgotten."""

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from hardness import signals
from hardness.augmentation import draw
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.classification import evaluate, validate
from hardness.training.folds import alike, deal, train_in_step
from hardness.training.optimization import check_finite, optimizer, prepare
from hardness.training.options import HALVES, SecondSplit
from hardness.training.pixels import Pixels


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

    Args:
        dataset: Training and validation samples.
        model: The network.
        options: Of this regimen.
        streams: Random streams; the same streams give the same bits on a CPU.
        device: Where to train.
        recording: What to record, by default everything.
        resume: Go on after this checkpoint's epoch, to the same bits as without the break.

    Raises:
        Diverged: If loss or logits leave the finite numbers.
        ValueError: If there are fewer than two samples to split.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    samples = dataset.train
    n = len(samples)
    if n < HALVES:
        raise ValueError(f"second_split: expected at least {HALVES} samples to split; got {n}")
    networks = alike(HALVES, model, dataset, streams, device)
    pixels, labels = Pixels(samples.images, device), samples.labels.to(device)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    held_out_labels = dataset.validation.labels.to(device)
    fold = deal(samples.labels, HALVES, options.split_seed)
    rows = [(fold == half).nonzero()[:, 0].to(device) for half in range(HALVES)]
    step_networks = [torch.compile(network) if train.compile else network for network in networks]
    # One optimizer for both: of the network that does not train it finds no gradients.
    both = nn.ModuleList(networks)
    optim, first = optimizer(both, train), 0
    if resume is not None:
        resume.restore(both, optim)
        first = resume.epoch + 1
    else:
        checkpoint = partial(capture, INIT, both, optim)
        yield EpochRecord(epoch=INIT, signals={}, summary={}, checkpoint=checkpoint)
    for epoch in range(first, options.epochs):
        second = epoch >= train.max_epochs
        if epoch == train.max_epochs:
            optim = optimizer(both, train)
        started = time.perf_counter()
        order = torch.randperm(n, generator=streams.generator("order", epoch))
        draws = draw(options.augmentation, n, streams.generator("augmentation", epoch)).to(device)
        both.train()
        summary = train_in_step(
            step_networks,
            optim,
            pixels,
            labels,
            [order[fold[order] == half].to(device) for half in ((1, 0) if second else (0, 1))],
            dropout_seed=streams.integer("dropout", epoch),
            augmentation=options.augmentation,
            parameters=draws,
            options=train,
            epoch=epoch - train.max_epochs if second else epoch,
            epochs=options.second_epochs if second else train.max_epochs,
        )
        trained = time.perf_counter()
        check_finite(summary["train_loss"], "the training loss", epoch)
        correct = torch.empty(n, dtype=torch.bool, device=device)
        for network, seen_first in zip(networks, rows, strict=True):
            logits = evaluate(network, pixels, seen_first).logits
            check_finite(logits.sum(dtype=torch.float64).item(), "the sum of logits", epoch)
            correct[seen_first] = signals.correct_from_logits(logits, labels[seen_first])
        validations = [validate(network, held_out, held_out_labels) for network in networks]
        summary |= {k: float(np.mean([v[k] for v in validations])) for k in validations[0]}
        summary |= {
            "train_seconds": trained - started,
            "eval_seconds": time.perf_counter() - trained,
        }
        name = "correct_second_split" if second else "correct_first_split"
        last = epoch == options.epochs - 1
        yield EpochRecord(
            epoch=epoch,
            signals={name: correct.cpu().numpy()} if recording.signals else {},
            summary=summary,
            snapshots={"fold": fold.numpy().astype(np.int32)} if last else {},
            checkpoint=partial(capture, epoch, both, optim),
        )
