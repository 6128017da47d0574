"""Train one network per fold, and evaluate each sample by the network that never saw it."""

import math
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
from hardness.training.classification import Evaluation, evaluate, validate
from hardness.training.classifier_passes import classifier_signals
from hardness.training.folds import Folds
from hardness.training.loop import Evaluated, Setup, Trained, train
from hardness.training.optimization import check_finite
from hardness.training.options import CrossFit
from hardness.training.passes import OUT_OF_FOLD, due


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
    """Train one network per fold, epoch by epoch, each on all samples outside its fold.

    The networks start from the same weights and drop the same units, so they differ only in their
    samples. With two folds, each network has half the training data. Its answers on the other half
    are unbiased, but weaker than those of a classifier trained on all.

    Signals are computed after every epoch on clean images in eval mode. A sample's logit signals
    and ``gradnorm`` come from the network that did not train on it (out of fold). ``own_loss`` is
    its loss under a network that did: the one that leaves out the next fold. In some epochs the
    requested scoring passes add theirs, out of fold.

    Snapshots of the last epoch: ``fold`` and ``holdout_loss`` always, and ``holdout_probs``, the
    out-of-fold probabilities in float64, if it is to be recorded. ``holdout_loss`` is the
    out-of-fold loss at the epoch in which the network had its lowest validation loss (the first of
    equal ones). In the summary, ``train_loss`` and ``train_accuracy`` are taken during training,
    ``val_loss`` and ``val_accuracy`` are means over the networks, and ``lr`` is the rate of the
    epoch's first step.

    Raises:
        Diverged: If loss or logits are no longer finite.
        ValueError: If there are fewer samples than folds, or a scoring pass is asked for in an
            epoch that the run does not have.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_CrossFit, setup, resume)


class _CrossFit:
    """One network per fold, and the out-of-fold losses at its best validation so far."""

    def __init__(self, setup: Setup[CrossFit]) -> None:
        self.setup = setup
        self.passes = setup.passes(OUT_OF_FOLD)
        n, k = len(setup.dataset.train), setup.options.folds
        if n < k:
            raise ValueError(f"cross_fit: expected at least as many samples as folds, {k}; got {n}")
        self.folds = Folds(setup, k)
        self.networks, self.pixels = self.folds.networks, self.folds.pixels
        self.loss = self.folds.loss
        self.best = _BestValidation(n, k)

    def start(self, resume: Checkpoint) -> Evaluated:
        self.best.tensors |= resume.carried()
        return Evaluated(carried=self.best.tensors)

    def orders(self, order: Tensor, _epoch: int) -> list[Tensor]:
        fold = self.folds.of_sample[order]
        return [order[fold != left_out] for left_out in range(len(self.networks))]

    def evaluate(self, trained: Trained) -> Evaluated:
        recording, folds, labels = self.setup.recording, self.folds, self.folds.labels
        recorded, kept, validations = _Columns(len(labels)), _Columns(len(labels)), []
        for one, (network, mine) in enumerate(zip(folds.networks, folds.rows, strict=True)):
            evaluation, given = evaluate(network, folds.pixels, mine), labels[mine]
            total = evaluation.logits.double().sum().item()
            check_finite(total, "the sum of logits", trained.epoch)
            validations.append(validate(network, folds.held_out, folds.held_out_labels))
            self.best.update(one, mine, validations[-1]["val_loss"], evaluation.logits, given)
            if trained.last and "holdout_probs" in recording.snapshots:
                kept.put(mine, {"holdout_probs": evaluation.logits.double().softmax(1)})
            if recording.signals:
                recorded.put(mine, _eval_signals(evaluation, given) | self._scored(one, trained))
                seen = folds.rows[(one - 1) % len(folds.rows)]
                own = logit_signals.loss_from_logits(
                    evaluate(network, folds.pixels, seen).logits, labels[seen]
                )
                recorded.put(seen, {"own_loss": own.float()})
        always = {
            "fold": folds.of_sample.int().numpy(),
            "holdout_loss": self.best.tensors["holdout_loss"].numpy(),
        }
        return Evaluated(
            signals=recorded.arrays,
            summary=folds.summary(trained, validations),
            snapshots=always | kept.arrays if trained.last else {},
            carried=self.best.tensors,
        )

    def _scored(self, one: int, trained: Trained) -> dict[str, Tensor]:
        """Signals of the scoring passes for one network and the fold that it never saw."""
        return classifier_signals(
            due(self.passes, trained.epoch),
            self.folds.networks[one],
            self.folds.pixels,
            self.folds.labels,
            rows=self.folds.rows[one],
            streams=self.setup.streams,
            epoch=trained.epoch,
        )


class _BestValidation:
    """The out-of-fold losses of each network at the epoch with its lowest validation loss.

    ``tensors`` are saved in the checkpoint: ``val_loss`` is the lowest validation loss of each
    network so far; ``holdout_loss`` is the loss of each sample, NaN before the first epoch.
    """

    def __init__(self, samples: int, networks: int) -> None:
        self.tensors = {
            "val_loss": torch.full((networks,), math.inf, dtype=torch.float64),
            "holdout_loss": torch.full((samples,), math.nan),
        }

    def update(
        self, network: int, rows: Tensor, val_loss: float, logits: Tensor, labels: Tensor
    ) -> None:
        """Store a network's losses on these rows if its validation loss is a new minimum."""
        if val_loss < self.tensors["val_loss"][network]:
            self.tensors["val_loss"][network] = val_loss
            loss = logit_signals.loss_from_logits(logits, labels).float()
            self.tensors["holdout_loss"][rows.cpu()] = loss.cpu()


def _eval_signals(evaluation: Evaluation, labels: Tensor) -> dict[str, Tensor]:
    emb, logits = evaluation
    found = logit_signals.from_logits(logits, labels)
    return {**found, "gradnorm": logit_signals.gradnorm_from_head(emb, logits).float()}


class _Columns:
    """Arrays over all samples, filled with the rows of one network after another."""

    def __init__(self, samples: int) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._samples = samples

    def put(self, rows: Tensor, found: dict[str, Tensor]) -> None:
        """Set these rows in the array of each name."""
        where = rows.cpu().numpy()
        for name, values in found.items():
            part = values.cpu().numpy()
            if name not in self.arrays:
                self.arrays[name] = np.empty((self._samples, *part.shape[1:]), part.dtype)
            self.arrays[name][where] = part
