"""Supervised training, evaluated on every training sample after each epoch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness import signals
from hardness.augmentation import Augmentation
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset, Samples
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.models import ModelOptions, Network, build
from hardness.seeding import Streams
from hardness.training.embeddings import EmbeddingTracker, snapshots
from hardness.training.optimization import (
    EVAL_BATCH,
    TrainOptions,
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.pixels import Pixels

NUMERICS_VERSION = 1
TRAIN_PHASE = ("p_label", "label_margin", "correct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What an experiment file says under ``regimens: supervised:``.

    Args:
        train: The optimization.
        augmentation: Of the training images; evaluation sees them clean.
    """

    train: TrainOptions = field(default_factory=TrainOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)


class _Evaluation(NamedTuple):
    emb: Tensor
    logits: Tensor


def supervised(
    dataset: Dataset,
    model: ModelOptions,
    options: Supervised,
    streams: Streams,
    *,
    device: torch.device | str = "cpu",
    recording: Recording | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[EpochRecord]:
    """Train with cross-entropy on the given labels; yield a record before and after each epoch.

    Signals: the logit signals of ``hardness.signals`` in the eval phase; ``p_label.train``,
    ``label_margin.train`` and ``correct.train`` from the presentations themselves;
    ``feature_norm`` and ``msd`` of the embedding. Whoever iterates decides what to keep and when
    to stop.

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
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    samples = dataset.train
    network = build(
        model,
        image_shape=samples.images.shape[1:],
        n_classes=len(dataset.classes),
        streams=streams,
    ).to(device)
    pixels, labels = Pixels(samples.images, device), samples.labels.to(device)
    step_network = torch.compile(network) if train.compile else network
    optim = optimizer(network, train)
    tracker, first, step = EmbeddingTracker(), 0, 0
    steps_an_epoch = len(batches(torch.arange(len(labels)), train.batch_size))
    if resume is not None:
        resume.restore(network, optim)
        first, step = resume.epoch + 1, (resume.epoch + 1) * steps_an_epoch
        # The previous embedding is not stored: the restored weights give it back bit for bit.
        tracker.previous = _evaluate(network, pixels, pixels.images).emb if first > 0 else None
    else:
        init = _evaluate(network, pixels, pixels.images)
        yield EpochRecord(
            epoch=INIT,
            signals=_eval_signals(init, labels, EmbeddingTracker()) if recording.signals else {},
            summary={},
            checkpoint=partial(capture, INIT, network, optim),
        )
    for epoch in range(first, train.max_epochs):
        started = time.perf_counter()
        torch.manual_seed(streams.integer("dropout", epoch))
        order = torch.randperm(len(labels), generator=streams.generator("order", epoch)).to(device)
        draws = options.augmentation.draw(len(labels), streams.generator("augmentation", epoch)).to(
            device
        )
        presented = torch.empty(len(labels), len(dataset.classes), device=device)
        total = torch.zeros((), dtype=torch.float64, device=device)
        network.train()
        for batch in batches(order, train.batch_size):
            for group in optim.param_groups:
                group["lr"] = learning_rate(step, train.max_epochs * steps_an_epoch, train)
            images = options.augmentation.apply(pixels.unit(batch), draws[batch])
            with autocast(train, device):
                logits = step_network(pixels.normalize(images))
            loss = cross_entropy(logits.float(), labels[batch])
            optim.zero_grad(set_to_none=True)
            loss.backward()
            optim.step()
            presented[batch] = logits.detach().float()
            total += loss.detach().double() * len(batch)
            step += 1
        trained = time.perf_counter()
        summary = {"train_loss": total.item() / len(labels)}
        check_finite(summary["train_loss"], "the training loss", epoch)
        evaluation = _evaluate(network, pixels, pixels.images)
        check_finite(evaluation.logits.double().sum().item(), "the sum of logits", epoch)
        recorded: dict[str, np.ndarray] = {}
        if recording.signals:
            recorded = _eval_signals(evaluation, labels, tracker)
            recorded |= _train_signals(presented, labels)
        summary["train_accuracy"] = _accuracy(evaluation.logits, labels)
        summary |= _validate(network, pixels, dataset.validation, device)
        summary |= {
            "train_seconds": trained - started,
            "eval_seconds": time.perf_counter() - trained,
        }
        last = epoch == train.max_epochs - 1
        yield EpochRecord(
            epoch=epoch,
            signals=recorded,
            summary=summary,
            snapshots=snapshots(recording.snapshots, evaluation._asdict()) if last else {},
            checkpoint=partial(capture, epoch, network, optim),
        )


@torch.inference_mode()
def _evaluate(network: Network, pixels: Pixels, images: Tensor) -> _Evaluation:
    """Embeddings and logits of clean images, in eval mode, in the order of the samples."""
    network.eval()
    parts = []
    for rows in images.split(EVAL_BATCH):
        emb = network.encoder(pixels.normalize(rows.float() / 255))
        parts.append((emb, network.head(emb)))
    return _Evaluation(*(torch.cat(column).float() for column in zip(*parts, strict=True)))


def _validate(
    network: Network, pixels: Pixels, validation: Samples, device: torch.device
) -> dict[str, float]:
    logits = _evaluate(network, pixels, validation.images.to(device)).logits
    labels = validation.labels.to(device)
    return {
        "val_loss": cross_entropy(logits.double(), labels).item(),
        "val_accuracy": _accuracy(logits, labels),
    }


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return signals.correct(logits, labels).double().mean().item()


def _eval_signals(
    evaluation: _Evaluation, labels: Tensor, tracker: EmbeddingTracker
) -> dict[str, np.ndarray]:
    found = signals.from_logits(evaluation.logits, labels)
    return {k: v.cpu().numpy() for k, v in found.items()} | tracker.update(evaluation.emb)


def _train_signals(presented: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    found = signals.from_logits(presented, labels)
    return {f"{k}.train": found[k].cpu().numpy() for k in TRAIN_PHASE}
