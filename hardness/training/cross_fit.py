"""Training on all folds but one: each sample is evaluated by a network that never saw it."""

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

    Raises:
        Diverged: If loss or logits leave the finite numbers.
        ValueError: If there are fewer samples than folds, or a scoring pass is asked for in an
            epoch that the run does not have.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_CrossFit, setup, resume)


class _CrossFit:
    """A network a fold, and the out-of-fold losses at its best validation so far."""

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
        """What the scoring passes say of one network's own fold."""
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
            loss = logit_signals.loss_from_logits(logits, labels).float()
            self.tensors["holdout_loss"][rows.cpu()] = loss.cpu()


def _eval_signals(evaluation: Evaluation, labels: Tensor) -> dict[str, Tensor]:
    emb, logits = evaluation
    found = logit_signals.from_logits(logits, labels)
    return {**found, "gradnorm": logit_signals.gradnorm_from_head(emb, logits).float()}


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
