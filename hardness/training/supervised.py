"""Train with labels, and evaluate every training sample after each epoch."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardness.data.datasets import Dataset
from hardness.dynamics.checkpoint import Checkpoint, weights
from hardness.dynamics.record import INIT, EpochRecord, Recording
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import logits as logit_signals
from hardness.signals.names import TRAIN_PHASE
from hardness.signals.tracking import EmbeddingTracker, snapshots
from hardness.training.classification import Evaluation, accuracy, evaluate, validate
from hardness.training.classifier_passes import check_kept, checkpoint_epochs, classifier_signals
from hardness.training.loop import Evaluated, Setup, Trained, arrays, train
from hardness.training.optimization import check_finite
from hardness.training.options import Supervised
from hardness.training.passes import OF_CLASSIFIERS, due


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
    """Train with cross-entropy on the dataset's labels.

    Signals in eval mode: the logit signals of ``hardness.signals``, ``grand_last_layer`` and
    ``gradnorm``, and ``feature_norm``, ``msd`` and ``msd_cosine`` of the embedding. Signals taken
    during training: ``p_label.train``, ``label_margin.train`` and ``correct.train``. In some epochs
    the requested scoring passes add theirs.

    Raises:
        Diverged: If loss or logits are no longer finite.
        ValueError: If ``score_epochs`` names an epoch that the run does not have, or the checkpoint
            lacks the weights that a scoring pass needs.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_Supervised, setup, resume)


class _Supervised:
    """A classifier, and its weights at the epochs that VoG's pass needs."""

    def __init__(self, setup: Setup[Supervised]) -> None:
        self.setup = setup
        self.passes = setup.passes(OF_CLASSIFIERS)
        self.keep = checkpoint_epochs(setup.options.epochs) if "vog" in self.passes else ()
        self.kept: dict[int, Mapping[str, Tensor]] = {}
        self.network = setup.network()
        self.networks = [self.network]
        self.pixels, self.held_out = setup.pixels()
        self.labels, self.held_out_labels = setup.labels()
        self.tracker = EmbeddingTracker()

    def start(self, resume: Checkpoint) -> Evaluated:
        self.kept |= resume.kept
        check_kept(self.kept, [epoch for epoch in self.keep if epoch <= resume.epoch])
        found = self._eval_signals(evaluate(self.network, self.pixels))
        if resume.epoch == INIT:
            self.tracker = EmbeddingTracker()
        return Evaluated(signals=found, kept=self.kept)

    def orders(self, order: Tensor, _epoch: int) -> list[Tensor]:
        return [order]

    def loss(self, logits: Tensor, _images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return cross_entropy(logits, self.labels[rows]), logits.detach()

    def evaluate(self, trained: Trained) -> Evaluated:
        epoch = trained.epoch
        evaluation = evaluate(self.network, self.pixels)
        check_finite(evaluation.logits.sum(dtype=torch.float64).item(), "the sum of logits", epoch)
        if epoch in self.keep:
            self.kept[epoch] = weights(self.network)
        scored = classifier_signals(
            due(self.passes, epoch),
            self.network,
            self.pixels,
            self.labels,
            streams=self.setup.streams,
            epoch=epoch,
            kept=self.kept,
        )
        wanted = self.setup.recording.snapshots if trained.last else ()
        return Evaluated(
            signals=self._eval_signals(evaluation) | self._train_signals(trained) | arrays(scored),
            summary={
                "train_loss": trained.loss,
                "lr": trained.lr,
                "train_accuracy": accuracy(evaluation.logits, self.labels),
                **validate(self.network, self.held_out, self.held_out_labels),
            },
            snapshots=snapshots(wanted, evaluation._asdict()),
            kept=self.kept,
        )

    def _eval_signals(self, evaluation: Evaluation) -> dict[str, np.ndarray]:
        if not self.setup.recording.signals:
            return {}
        emb, logits = evaluation
        found = logit_signals.from_logits(logits, self.labels)
        found["grand_last_layer"] = logit_signals.grand_last_layer_from_head(
            emb, logits, self.labels
        ).float()
        found["gradnorm"] = logit_signals.gradnorm_from_head(emb, logits).float()
        return arrays(found) | self.tracker.update(emb)

    def _train_signals(self, trained: Trained) -> dict[str, np.ndarray]:
        """Signals taken during training, put back into the order of the samples."""
        if not self.setup.recording.signals:
            return {}
        found = logit_signals.from_logits(torch.cat([*trained.kept]), self.labels[trained.rows])
        back = trained.rows.argsort()
        return {f"{name}.train": found[name][back].cpu().numpy() for name in TRAIN_PHASE}
