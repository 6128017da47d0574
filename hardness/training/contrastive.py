"""Contrastive training without labels: SimCLR and Barlow Twins, embeddings recorded each epoch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hardness.augmentation import Augmentation
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.models import ModelOptions, Network, build
from hardness.seeding import Streams
from hardness.training.embeddings import EmbeddingTracker, snapshots
from hardness.training.optimization import (
    TrainOptions,
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.pixels import EVAL_BATCH, Pixels

NUMERICS_VERSION = 1


def _views() -> Augmentation:
    return Augmentation(
        crop_scale=(0.3, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, grayscale=0.2
    )


def _adamw() -> TrainOptions:
    return TrainOptions(optimizer="adamw", lr=2e-3, batch_size=256, weight_decay=1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrastive:
    """What an experiment file says under ``regimens: contrastive:``.

    Args:
        objective: ``simclr`` (NT-Xent) or ``barlow_twins``.
        temperature: Of NT-Xent.
        off_diagonal: Weight of Barlow Twins' redundancy term.
        projection: Units of the projection head's output.
        train: The optimization.
        augmentation: How a view differs from its image.

    Raises:
        ValueError: If a number is out of range.
    """

    objective: Literal["simclr", "barlow_twins"] = "simclr"
    temperature: float = 0.5
    off_diagonal: float = 5e-3
    projection: int = 128
    train: TrainOptions = field(default_factory=_adamw)
    augmentation: Augmentation = field(default_factory=_views)

    @property
    def epochs(self) -> int:
        """How many records a run leaves, the one before training apart."""
        return self.train.max_epochs

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature: expected a positive number; came {self.temperature}")
        if not self.off_diagonal >= 0:
            raise ValueError(f"off_diagonal: expected 0 or more; came {self.off_diagonal}")
        if self.projection < 1:
            raise ValueError(f"projection: expected at least 1; came {self.projection}")


class _Projected(nn.Module):
    """The encoder under a projection head; the classifier's head is dropped."""

    def __init__(self, network: Network, width: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.projector = nn.Sequential(
            nn.Linear(network.width, network.width, bias=False),
            nn.BatchNorm1d(network.width),
            nn.ReLU(),
            nn.Linear(network.width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))


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
    """Train an encoder to give two views of one image the same place; labels are never read.

    Signals: ``feature_norm``, ``msd`` and ``msd_cosine`` of the encoder's output on the clean
    images, in eval mode. The validation loss is the objective's own, on fixed views of the
    validation images.

    Args:
        dataset: Training and validation samples; of these only the images are used.
        model: The network whose encoder is trained.
        options: Of this regimen.
        streams: Random streams; the same streams give the same bits on a CPU.
        device: Where to train.
        recording: What to record, by default everything.
        resume: Go on after this checkpoint's epoch, to the same bits as without the break.

    Raises:
        Diverged: If loss or embeddings leave the finite numbers.
        ValueError: If there are fewer than two samples to contrast.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    images = dataset.train.images
    n = len(images)
    for part, count in (("train", n), ("validation", len(dataset.validation.images))):
        if count < 2:  # noqa: PLR2004
            raise ValueError(
                f"contrastive: expected at least 2 samples to contrast in {part}; came {count}"
            )
    network = _network(options, model, dataset, streams).to(device)
    pixels, objective = Pixels(images, device), _objective(options)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    step_network = torch.compile(network) if train.compile else network
    optim = optimizer(network, train)
    tracker, first, step = EmbeddingTracker(), 0, 0
    steps_an_epoch = len(batches(torch.arange(n), train.batch_size))
    if resume is not None:
        resume.restore(network, optim)
        first, step = resume.epoch + 1, (resume.epoch + 1) * steps_an_epoch
        tracker.previous = _embed(network, pixels) if first > 0 else None
    else:
        emb = _embed(network, pixels)
        yield EpochRecord(
            epoch=INIT,
            signals=EmbeddingTracker().update(emb) if recording.signals else {},
            summary={},
            checkpoint=partial(capture, INIT, network, optim),
        )
    for epoch in range(first, train.max_epochs):
        started = time.perf_counter()
        torch.manual_seed(streams.integer("dropout", epoch))
        order = torch.randperm(n, generator=streams.generator("order", epoch)).to(device)
        generator = streams.generator("augmentation", epoch)
        draws = [options.augmentation.draw(n, generator).to(device) for _ in range(2)]
        total = torch.zeros((), dtype=torch.float64, device=device)
        network.train()
        for batch in batches(order, train.batch_size):
            for group in optim.param_groups:
                group["lr"] = learning_rate(step, train.max_epochs * steps_an_epoch, train)
            unit = pixels.unit(batch)
            views = torch.cat([options.augmentation.apply(unit, d[batch]) for d in draws])
            with autocast(train, device):
                projected = step_network(pixels.normalize(views))
            loss = objective(*projected.float().chunk(2))
            optim.zero_grad(set_to_none=True)
            loss.backward()
            optim.step()
            total += loss.detach().double() * len(batch)
            step += 1
        trained = time.perf_counter()
        first_lr = learning_rate(epoch * steps_an_epoch, train.max_epochs * steps_an_epoch, train)
        summary = {"train_loss": total.item() / n, "lr": first_lr}
        check_finite(summary["train_loss"], "the training loss", epoch)
        emb = _embed(network, pixels)
        check_finite(emb.double().sum().item(), "the sum of embeddings", epoch)
        recorded: dict[str, np.ndarray] = tracker.update(emb) if recording.signals else {}
        summary["val_loss"] = _validation_loss(network, held_out, options)
        summary |= {
            "train_seconds": trained - started,
            "eval_seconds": time.perf_counter() - trained,
        }
        last = epoch == train.max_epochs - 1
        yield EpochRecord(
            epoch=epoch,
            signals=recorded,
            summary=summary,
            snapshots=snapshots(recording.snapshots, {"emb": emb}) if last else {},
            checkpoint=partial(capture, epoch, network, optim),
        )


def ntxent(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], temperature: float
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross-entropy of SimCLR, the mean over both views.

    References:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
        ICML 2020, equation 1.
    """
    z = normalize(torch.cat([a, b]), dim=1)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf
    )
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return cross_entropy(similarity, partner)


def barlow_twins(
    a: Float[Tensor, "batch width"], b: Float[Tensor, "batch width"], off_diagonal: float
) -> Float[Tensor, ""]:
    """Redundancy reduction: the views' cross-correlation against the identity.

    Each view is standardised by itself (population variance plus 1e-5), as in the paper.

    References:
        Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        ICML 2021, equations 1 and 2.
    """
    a, b = _standardize(a), _standardize(b)
    correlation = a.T @ b / len(a)
    squared = correlation.square()
    on_diagonal = (1 - correlation.diagonal()).square().sum()
    return on_diagonal + off_diagonal * (squared.sum() - squared.diagonal().sum())


def _standardize(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


def _objective(options: Contrastive) -> Callable[[Tensor, Tensor], Tensor]:
    if options.objective == "simclr":
        return partial(ntxent, temperature=options.temperature)
    return partial(barlow_twins, off_diagonal=options.off_diagonal)


def _network(
    options: Contrastive, model: ModelOptions, dataset: Dataset, streams: Streams
) -> _Projected:
    shape = dataset.train.images.shape[1:]
    network = build(model, image_shape=shape, n_classes=len(dataset.classes), streams=streams)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("weights", epoch=1))
        return _Projected(network, options.projection)


@torch.inference_mode()
def _embed(network: _Projected, pixels: Pixels) -> Tensor:
    """Encoder outputs of the clean training images, in eval mode, in the order of the samples."""
    network.eval()
    parts = [network.encoder(pixels.normalize(unit)) for unit in pixels.blocks()]
    return torch.cat(parts).float()


@torch.inference_mode()
def _validation_loss(network: _Projected, held_out: Pixels, options: Contrastive) -> float:
    network.eval()
    n, device = len(held_out), held_out.device
    # The same views for every run, so that losses of two seeds or configurations compare.
    generator = Streams(seed=0).generator("views")
    draws = [options.augmentation.draw(n, generator).to(device) for _ in range(2)]
    total, objective = 0.0, _objective(options)
    for batch in batches(torch.randperm(n, generator=generator).to(device), EVAL_BATCH):
        unit = held_out.unit(batch)
        views = [options.augmentation.apply(unit, d[batch]) for d in draws]
        projected = [network(held_out.normalize(view)) for view in views]
        total += objective(*projected).double().item() * len(batch)
    return total / n
