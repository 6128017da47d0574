"""Train without labels, by SimCLR or Barlow Twins, and record embeddings each epoch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hardness.data.datasets import Dataset
from hardness.dynamics.checkpoint import Checkpoint
from hardness.dynamics.record import INIT, EpochRecord, Recording
from hardness.models.augmentation import augment, draw
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals.tracking import EmbeddingTracker, snapshots
from hardness.signals.views import Objective
from hardness.training.contrastive_passes import contrastive_signals
from hardness.training.loop import Evaluated, Setup, Trained, arrays, train
from hardness.training.optimization import batches, check_finite
from hardness.training.options import Contrastive
from hardness.training.passes import OF_CONTRASTIVE, due
from hardness.training.pixels import EVAL_BATCH
from hardness.training.projection import Projected

VIEWS = 2


def contrastive(
    dataset: Dataset,
    model: ModelOptions,
    options: Contrastive,
    streams: Streams,
    *,
    device: torch.device | str = "cpu",
    recording: Recording | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[EpochRecord]:
    """Train an encoder to give two views of an image similar embeddings; labels are never read.

    Signals of every epoch: ``feature_norm``, ``msd`` and ``msd_cosine`` of the encoder's output on
    clean images, in eval mode. In some epochs, the requested scoring passes add theirs, computed on
    new views in batches that the dataset's ``data_seed`` draws. The validation loss is the
    objective on fixed views of the validation images.

    Raises:
        Diverged: If loss or embeddings are no longer finite.
        ValueError: If there are fewer than two samples to contrast, or a scoring pass is asked for
            in an epoch that the run does not have.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_Contrastive, setup, resume, views=VIEWS)


class _Contrastive:
    """An encoder with a projection head, and the embedding of the previous epoch."""

    def __init__(self, setup: Setup[Contrastive]) -> None:
        self.setup = setup
        self.passes = setup.passes(OF_CONTRASTIVE)
        for part in ("train", "validation"):
            count = len(getattr(setup.dataset, part).images)
            if count < 2:  # noqa: PLR2004
                raise ValueError(
                    f"contrastive: expected at least 2 samples to contrast in {part}; got {count}"
                )
        self.objective = _objective(setup.options)
        self.network = setup.extended(lambda network: Projected(network, setup.options.projection))
        self.networks = [self.network]
        self.pixels, self.held_out = setup.pixels()
        self.tracker = EmbeddingTracker()

    def start(self, resume: Checkpoint) -> Evaluated:
        found = self._signals(self._embed())
        if resume.epoch == INIT:
            self.tracker = EmbeddingTracker()
        return Evaluated(signals=found)

    def orders(self, order: Tensor, _epoch: int) -> list[Tensor]:
        return [order]

    def loss(self, projected: Tensor, _images: Tensor, _rows: Tensor) -> tuple[Tensor, None]:
        return self.objective.of_batch(*projected.chunk(VIEWS)), None

    def evaluate(self, trained: Trained) -> Evaluated:
        setup, epoch, emb = self.setup, trained.epoch, self._embed()
        check_finite(emb.sum(dtype=torch.float64).item(), "the sum of embeddings", epoch)
        scored = contrastive_signals(
            due(self.passes, epoch),
            self.network,
            self.pixels,
            self.objective,
            setup.options.augmentation,
            streams=setup.streams,
            epoch=epoch,
            data_seed=setup.dataset.data_seed,
            at_once=setup.options.train.batch_size,
        )
        wanted = setup.recording.snapshots if trained.last else ()
        return Evaluated(
            signals=self._signals(emb) | arrays(scored),
            summary={
                "train_loss": trained.loss,
                "lr": trained.lr,
                "val_loss": self._validation_loss(),
            },
            snapshots=snapshots(wanted, {"emb": emb}),
        )

    def _signals(self, emb: Tensor) -> dict[str, np.ndarray]:
        return self.tracker.update(emb) if self.setup.recording.signals else {}

    @torch.inference_mode()
    def _embed(self) -> Tensor:
        """Encoder outputs of the clean training images, in eval mode."""
        self.network.eval()
        units = self.pixels.blocks()
        return torch.cat([self.network.encoder(self.pixels.normalize(u)) for u in units]).float()

    @torch.inference_mode()
    def _validation_loss(self) -> float:
        self.network.eval()
        held_out, augmentation = self.held_out, self.setup.options.augmentation
        n, device = len(held_out), held_out.device
        # The same views for every run make losses of two seeds or configurations comparable.
        generator = Streams(seed=0).generator("views")
        draws = [draw(augmentation, n, generator).to(device) for _ in range(VIEWS)]
        order = torch.randperm(n, generator=generator).to(device)
        total = 0.0
        for batch, unit in held_out.units(batches(order, EVAL_BATCH)):
            views = [augment(augmentation, unit, uniform[batch]) for uniform in draws]
            projected = [self.network(held_out.normalize(view)) for view in views]
            total += self.objective.of_batch(*projected).double().item() * len(batch)
        return total / n


def _objective(options: Contrastive) -> Objective:
    return Objective(
        name=options.objective,
        temperature=options.temperature,
        off_diagonal=options.off_diagonal,
    )
