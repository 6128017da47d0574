"""Training on all folds but one: each sample is evaluated by a network that never saw it."""

import math
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from hardness import signals
from hardness.augmentation import draw
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.classification import Evaluation, evaluate, validate
from hardness.training.classifier_passes import classifier_signals
from hardness.training.folds import alike, deal, train_in_step
from hardness.training.optimization import check_finite, optimizer, prepare
from hardness.training.options import CrossFit
from hardness.training.passes import OUT_OF_FOLD, schedule
from hardness.training.pixels import Pixels


def cross_fit(
    dataset: Dataset,
    model: ModelOptions,
    options: CrossFit,
    streams: Streams,
    *,
    device: torch.device | str = "cpu",
    recording: Recording | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[EpochRecord]:
    """Train one network a fold, in step, each on all samples but those of its fold.

    The networks start from the same weights and drop the same units, so that they differ in their
    samples alone. With two folds each has half the training data: what it makes of the other half
    is honest, yet of a weaker classifier than one trained on all.

    Signals, clean and in eval mode after every epoch: the logit signals of ``hardness.signals``
    and ``gradnorm`` of each sample by the network that did not train on it, out of fold;
    ``own_loss``, its loss under one that did, which is the other network of two and else the one
    that leaves out the next fold. In some epochs those of the scoring passes that are asked for,
    out of fold as well.

    Snapshots of the last epoch: ``holdout_probs``, the out-of-fold probabilities of that epoch in
    float64, if it is to be recorded; whatever else is recorded, ``fold`` and ``holdout_loss``,
    the out-of-fold loss at the epoch at which the network that gives it had its lowest validation
    loss, the first of equal ones. The summary's ``train_loss`` and ``train_accuracy`` are those
    of the presentations themselves, ``val_loss`` and ``val_accuracy`` the mean of the networks,
    ``lr`` the rate of the epoch's first step.

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
        ValueError: If there are fewer samples than folds, or a scoring pass is asked for in an
            epoch that the run does not have.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    passes = schedule(OUT_OF_FOLD, recording, train.max_epochs) if recording.signals else {}
    samples, k = dataset.train, options.folds
    n = len(samples)
    if n < k:
        raise ValueError(f"cross_fit: expected at least as many samples as folds, {k}; got {n}")
    networks = alike(k, model, dataset, streams, device)
    pixels, labels = Pixels(samples.images, device), samples.labels.to(device)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    held_out_labels = dataset.validation.labels.to(device)
    fold = deal(samples.labels, k, options.split_seed)
    rows = [(fold == one).nonzero()[:, 0].to(device) for one in range(k)]
    step_networks = [torch.compile(network) if train.compile else network for network in networks]
    # One optimizer for all: of a network that does not train it finds no gradients.
    together = nn.ModuleList(networks)
    optim, first = optimizer(together, train), 0
    best = _BestValidation(n, k)
    if resume is not None:
        resume.restore(together, optim)
        first = resume.epoch + 1
        best.tensors = resume.carried()
    else:
        checkpoint = partial(capture, INIT, together, optim, carried=best.tensors)
        yield EpochRecord(epoch=INIT, signals={}, summary={}, checkpoint=checkpoint)
    for epoch in range(first, train.max_epochs):
        started = time.perf_counter()
        order = torch.randperm(n, generator=streams.generator("order", epoch))
        draws = draw(options.augmentation, n, streams.generator("augmentation", epoch)).to(device)
        together.train()
        summary = train_in_step(
            step_networks,
            optim,
            pixels,
            labels,
            [order[fold[order] != left_out].to(device) for left_out in range(k)],
            dropout_seed=streams.integer("dropout", epoch),
            augmentation=options.augmentation,
            parameters=draws,
            options=train,
            epoch=epoch,
            epochs=train.max_epochs,
        )
        trained = time.perf_counter()
        check_finite(summary["train_loss"], "the training loss", epoch)
        last = epoch == train.max_epochs - 1
        due = [name for name, epochs in passes.items() if epoch in epochs]
        recorded, kept, validations = _Columns(n), _Columns(n), []
        for one, (network, mine) in enumerate(zip(networks, rows, strict=True)):
            evaluation, given = evaluate(network, pixels, mine), labels[mine]
            check_finite(evaluation.logits.double().sum().item(), "the sum of logits", epoch)
            validations.append(validate(network, held_out, held_out_labels))
            best.update(one, mine, validations[-1]["val_loss"], evaluation.logits, given)
            if last and "holdout_probs" in recording.snapshots:
                kept.put(mine, {"holdout_probs": evaluation.logits.double().softmax(1)})
            if recording.signals:
                scored = classifier_signals(
                    due, network, pixels, labels, rows=mine, streams=streams, epoch=epoch
                )
                recorded.put(mine, _eval_signals(evaluation, given) | scored)
                seen = rows[(one - 1) % k]
                own = signals.loss_from_logits(evaluate(network, pixels, seen).logits, labels[seen])
                recorded.put(seen, {"own_loss": own.float()})
        summary |= {name: float(np.mean([v[name] for v in validations])) for name in validations[0]}
        summary |= {
            "train_seconds": trained - started,
            "eval_seconds": time.perf_counter() - trained,
        }
        yield EpochRecord(
            epoch=epoch,
            signals=recorded.arrays,
            summary=summary,
            snapshots={**_always(fold, best), **kept.arrays} if last else {},
            checkpoint=partial(capture, epoch, together, optim, carried=best.tensors),
        )


class _BestValidation:
    """The out-of-fold loss at the epoch at which the network that gives it validated best.

    ``tensors`` go from epoch to epoch with the checkpoint: the lowest validation loss of each
    network so far, and ``holdout_loss`` of each sample, NaN until its network has one.
    """

    def __init__(self, samples: int, networks: int) -> None:
        self.tensors = {
            "val_loss": torch.full((networks,), math.inf, dtype=torch.float64),
            "holdout_loss": torch.full((samples,), math.nan),
        }

    def update(
        self, network: int, rows: Tensor, val_loss: float, logits: Tensor, labels: Tensor
    ) -> None:
        """Take a network's losses on these rows if it has never validated better or as well."""
        if val_loss < self.tensors["val_loss"][network]:
            self.tensors["val_loss"][network] = val_loss
            loss = signals.loss_from_logits(logits, labels).float()
            self.tensors["holdout_loss"][rows.cpu()] = loss.cpu()


def _always(fold: Tensor, best: _BestValidation) -> dict[str, np.ndarray]:
    """Snapshots that do not depend on what is recorded."""
    return {"fold": fold.int().numpy(), "holdout_loss": best.tensors["holdout_loss"].numpy()}


def _eval_signals(evaluation: Evaluation, labels: Tensor) -> dict[str, Tensor]:
    emb, logits = evaluation
    found = signals.from_logits(logits, labels)
    return {**found, "gradnorm": signals.gradnorm_from_head(emb, logits).float()}


class _Columns:
    """Arrays of all samples, filled from the rows of one network after another."""

    def __init__(self, samples: int) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._samples = samples

    def put(self, rows: Tensor, found: dict[str, Tensor]) -> None:
        """Set these rows of these columns."""
        where = rows.cpu().numpy()
        for name, values in found.items():
            part = values.cpu().numpy()
            if name not in self.arrays:
                self.arrays[name] = np.empty((self._samples, *part.shape[1:]), part.dtype)
            self.arrays[name][where] = part
