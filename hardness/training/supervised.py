"""Supervised training, evaluated on every training sample after each epoch."""

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hardness import signals
from hardness.augmentation import draw
from hardness.checkpoint import Checkpoint, capture, weights
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.models import build
from hardness.options import ModelOptions
from hardness.seeding import Streams
from hardness.signal_names import TRAIN_PHASE
from hardness.training.classification import Evaluation, accuracy, evaluate, train_epoch, validate
from hardness.training.classifier_passes import (
    check_kept,
    checkpoint_epochs,
    classifier_signals,
)
from hardness.training.embeddings import EmbeddingTracker, snapshots
from hardness.training.optimization import check_finite, optimizer, prepare
from hardness.training.options import Supervised
from hardness.training.passes import OF_CLASSIFIERS, schedule
from hardness.training.pixels import Pixels


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

    Signals: the logit signals of ``hardness.signals`` in the eval phase, ``grand_last_layer`` and
    ``gradnorm``; ``p_label.train``, ``label_margin.train`` and ``correct.train`` from the
    presentations themselves; ``feature_norm``, ``msd`` and ``msd_cosine`` of the embedding; in some
    epochs those of the scoring passes that are asked for. Whoever iterates decides what to keep and
    when to stop.

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
        ValueError: If a scoring pass is asked for in an epoch that the run does not have, or one
            that the checkpoint has not kept the weights for.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    passes = schedule(OF_CLASSIFIERS, recording, train.max_epochs) if recording.signals else {}
    keep = checkpoint_epochs(train.max_epochs) if "vog" in passes else ()
    kept: dict[int, dict[str, Tensor]] = {}
    samples = dataset.train
    network = build(
        model,
        image_shape=samples.images.shape[1:],
        n_classes=len(dataset.classes),
        streams=streams,
    ).to(device)
    pixels, labels = Pixels(samples.images, device), samples.labels.to(device)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    held_out_labels = dataset.validation.labels.to(device)
    step_network = torch.compile(network) if train.compile else network
    optim = optimizer(network, train)
    tracker, first = EmbeddingTracker(), 0
    if resume is not None:
        resume.restore(network, optim)
        first = resume.epoch + 1
        kept |= {epoch: dict(tensors) for epoch, tensors in resume.kept.items()}
        check_kept(kept, [epoch for epoch in keep if epoch < first])
        # The previous embedding is not stored: the restored weights give it back bit for bit.
        tracker.previous = evaluate(network, pixels).emb if first > 0 else None
    else:
        init = evaluate(network, pixels)
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
        draws = draw(options.augmentation, len(labels), streams.generator("augmentation", epoch))
        network.train()
        presented = train_epoch(
            step_network,
            optim,
            pixels,
            labels,
            order,
            augmentation=options.augmentation,
            parameters=draws.to(device),
            options=train,
            epoch=epoch,
            epochs=train.max_epochs,
        )
        trained = time.perf_counter()
        summary = {"train_loss": presented.loss.item() / len(labels), "lr": presented.lr}
        check_finite(summary["train_loss"], "the training loss", epoch)
        evaluation = evaluate(network, pixels)
        check_finite(evaluation.logits.sum(dtype=torch.float64).item(), "the sum of logits", epoch)
        if epoch in keep:
            kept[epoch] = weights(network)
        recorded: dict[str, np.ndarray] = {}
        if recording.signals:
            recorded = _eval_signals(evaluation, labels, tracker)
            recorded |= _train_signals(presented.logits, labels[order], order)
            due = [name for name, epochs in passes.items() if epoch in epochs]
            scored = classifier_signals(
                due, network, pixels, labels, streams=streams, epoch=epoch, kept=kept
            )
            recorded |= {name: values.cpu().numpy() for name, values in scored.items()}
        summary["train_accuracy"] = accuracy(evaluation.logits, labels)
        summary |= validate(network, held_out, held_out_labels)
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
            checkpoint=partial(capture, epoch, network, optim, kept=kept),
        )


def _eval_signals(
    evaluation: Evaluation, labels: Tensor, tracker: EmbeddingTracker
) -> dict[str, np.ndarray]:
    emb, logits = evaluation
    found = signals.from_logits(logits, labels)
    found["grand_last_layer"] = signals.grand_last_layer_from_head(emb, logits, labels).float()
    found["gradnorm"] = signals.gradnorm_from_head(emb, logits).float()
    return {k: v.cpu().numpy() for k, v in found.items()} | tracker.update(emb)


def _train_signals(logits: Tensor, labels: Tensor, order: Tensor) -> dict[str, np.ndarray]:
    """Signals of the presentations, put back into the order of the samples."""
    found = signals.from_logits(logits, labels)
    rows = order.argsort()
    return {f"{k}.train": found[k][rows].cpu().numpy() for k in TRAIN_PHASE}
