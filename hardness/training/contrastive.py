"""Contrastive training without labels: SimCLR and Barlow Twins, embeddings recorded each epoch."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from hardness.augmentation import augment, draw
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.models import build
from hardness.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.contrastive_passes import contrastive_signals
from hardness.training.embeddings import EmbeddingTracker, snapshots
from hardness.training.optimization import (
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.options import Contrastive
from hardness.training.passes import OF_CONTRASTIVE, schedule
from hardness.training.pixels import EVAL_BATCH, Pixels
from hardness.training.projection import Projected
from hardness.view_losses import Objective


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
    images, in eval mode; in some epochs those of the scoring passes that are asked for, on views
    drawn for them. The validation loss is the objective's own, on fixed views of the validation
    images.

    Args:
        dataset: Training and validation samples; of these only the images are used. Scoring
            passes cut them into batches by its ``data_seed``.
        model: The network whose encoder is trained.
        options: Of this regimen.
        streams: Random streams; the same streams give the same bits on a CPU.
        device: Where to train.
        recording: What to record, by default everything.
        resume: Go on after this checkpoint's epoch, to the same bits as without the break.

    Raises:
        Diverged: If loss or embeddings leave the finite numbers.
        ValueError: If there are fewer than two samples to contrast, or a scoring pass is asked for
            in an epoch that the run does not have.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    passes = schedule(OF_CONTRASTIVE, recording, train.max_epochs) if recording.signals else {}
    images = dataset.train.images
    n = len(images)
    for part, count in (("train", n), ("validation", len(dataset.validation.images))):
        if count < 2:  # noqa: PLR2004
            raise ValueError(
                f"contrastive: expected at least 2 samples to contrast in {part}; got {count}"
            )
    network = _network(options, model, dataset, streams).to(device)
    pixels = Pixels(images, device)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    step_network = torch.compile(network) if train.compile else network
    optim = optimizer(network, train)
    tracker, first = EmbeddingTracker(), 0
    if resume is not None:
        resume.restore(network, optim)
        first = resume.epoch + 1
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
        draws = [draw(options.augmentation, n, generator).to(device) for _ in range(2)]
        network.train()
        loss, first_lr = _train_epoch(step_network, optim, pixels, order, draws, options, epoch)
        trained = time.perf_counter()
        summary = {"train_loss": loss.item() / n, "lr": first_lr}
        check_finite(summary["train_loss"], "the training loss", epoch)
        emb = _embed(network, pixels)
        check_finite(emb.sum(dtype=torch.float64).item(), "the sum of embeddings", epoch)
        recorded: dict[str, np.ndarray] = {}
        if recording.signals:
            recorded = tracker.update(emb)
            scored = contrastive_signals(
                [name for name, epochs in passes.items() if epoch in epochs],
                network,
                pixels,
                _objective(options),
                options.augmentation,
                streams=streams,
                epoch=epoch,
                data_seed=dataset.data_seed,
                at_once=train.batch_size,
            )
            recorded |= {name: values.cpu().numpy() for name, values in scored.items()}
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


def _train_epoch(
    forward: Callable[[Tensor], Tensor],
    optim: torch.optim.Optimizer,
    pixels: Pixels,
    order: Int64[Tensor, " samples"],
    draws: Sequence[Float[Tensor, "samples parameters"]],
    options: Contrastive,
    epoch: int,
) -> tuple[Float64[Tensor, ""], float]:
    """One epoch of steps: the loss summed over the samples, the first step's learning rate."""
    train, objective = options.train, _objective(options)
    presented = batches(order, train.batch_size)
    steps = len(presented)
    total = torch.zeros((), dtype=torch.float64, device=pixels.device)
    for step, (batch, unit) in enumerate(pixels.units(presented), epoch * steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, train.max_epochs * steps, train)
        views = torch.cat([augment(options.augmentation, unit, d[batch]) for d in draws])
        with autocast(train, pixels.device):
            projected = forward(pixels.normalize(views))
        loss = objective.of_batch(*projected.float().chunk(2))
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        total += loss.detach().double() * len(batch)
    return total, learning_rate(epoch * steps, train.max_epochs * steps, train)


def _objective(options: Contrastive) -> Objective:
    return Objective(
        name=options.objective,
        temperature=options.temperature,
        off_diagonal=options.off_diagonal,
    )


def _network(
    options: Contrastive, model: ModelOptions, dataset: Dataset, streams: Streams
) -> Projected:
    shape = dataset.train.images.shape[1:]
    network = build(model, image_shape=shape, n_classes=len(dataset.classes), streams=streams)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("weights", epoch=1))
        return Projected(network, options.projection)


@torch.inference_mode()
def _embed(network: Projected, pixels: Pixels) -> Tensor:
    """Encoder outputs of the clean training images, in eval mode, in the order of the samples."""
    network.eval()
    parts = [network.encoder(pixels.normalize(unit)) for unit in pixels.blocks()]
    return torch.cat(parts).float()


@torch.inference_mode()
def _validation_loss(network: Projected, held_out: Pixels, options: Contrastive) -> float:
    network.eval()
    n, device = len(held_out), held_out.device
    # The same views for every run, so that losses of two seeds or configurations compare.
    generator = Streams(seed=0).generator("views")
    draws = [draw(options.augmentation, n, generator).to(device) for _ in range(2)]
    total, objective = 0.0, _objective(options)
    order = torch.randperm(n, generator=generator).to(device)
    for batch, unit in held_out.units(batches(order, EVAL_BATCH)):
        views = [augment(options.augmentation, unit, d[batch]) for d in draws]
        projected = [network(held_out.normalize(view)) for view in views]
        total += objective.of_batch(*projected).double().item() * len(batch)
    return total / n
