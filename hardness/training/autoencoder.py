"""Autoencoder: an encoder and a decoder that reproduces the image, recorded each epoch."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hardness import signals
from hardness.augmentation import augment, draw
from hardness.checkpoint import Checkpoint, capture
from hardness.datasets import Dataset
from hardness.dynamics import INIT, EpochRecord, Recording
from hardness.models import Network, build
from hardness.options import ModelOptions
from hardness.seeding import Streams
from hardness.training.embeddings import EmbeddingTracker, snapshots
from hardness.training.optimization import (
    autocast,
    batches,
    check_finite,
    learning_rate,
    optimizer,
    prepare,
)
from hardness.training.options import Autoencoder
from hardness.training.pixels import Pixels

# The decoder starts from so few pixels a side.
_SEED_SIDE = 4
# Channels grow towards there, up to so many times those at the image's own size.
_MOST_CHANNELS = 8


class Reconstruction(nn.Module):
    """The encoder of a network and a convolutional decoder; the classifier's head is dropped.

    The decoder turns the embedding into a few pixels of many channels, then doubles their number
    along each side and convolves, until the image's shape is reached, whatever that is.
    """

    def __init__(self, network: Network, image_shape: Sequence[int], channels: int) -> None:
        super().__init__()
        self.encoder = network.encoder
        sizes = _halvings(*image_shape[1:])
        widths = [channels * min(2**halved, _MOST_CHANNELS) for halved in range(len(sizes))]
        height, width = sizes[-1]
        layers: list[nn.Module] = [
            nn.Linear(network.width, widths[-1] * height * width),
            nn.Unflatten(1, (widths[-1], height, width)),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        ]
        for (before, after), size in zip(pairwise(widths[::-1]), sizes[-2::-1], strict=True):
            layers += [
                nn.Upsample(size=size),
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        to_pixels = nn.Conv2d(channels, image_shape[0], 3, padding=1)
        self.decoder = nn.Sequential(*layers, to_pixels, nn.Sigmoid())

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Reconstructions, in 0..1 as the pixels are before they are normalised."""
        return self.decoder(self.encoder(x))


def autoencoder(
    dataset: Dataset,
    model: ModelOptions,
    options: Autoencoder,
    streams: Streams,
    *,
    device: torch.device | str = "cpu",
    recording: Recording | None = None,
    resume: Checkpoint | None = None,
) -> Iterator[EpochRecord]:
    """Train an encoder whose embedding suffices to draw the image again; labels are never read.

    The loss is the mean squared error over pixels in 0..1. Signals, of clean images in eval mode:
    ``reconstruction_error``, that same mean of each sample, and ``feature_norm``, ``msd`` and
    ``msd_cosine`` of the embedding. The validation loss is the mean error of the validation images.

    Args:
        dataset: Training and validation samples; of these only the images are used.
        model: The network whose encoder is trained.
        options: Of this regimen.
        streams: Random streams; the same streams give the same bits on a CPU.
        device: Where to train.
        recording: What to record, by default everything.
        resume: Go on after this checkpoint's epoch, to the same bits as without the break.

    Raises:
        Diverged: If loss, errors or embeddings leave the finite numbers.
    """
    device, recording, train = torch.device(device), recording or Recording(), options.train
    prepare(train, device)
    images = dataset.train.images
    n = len(images)
    network = _network(options, model, dataset, streams).to(device)
    pixels = Pixels(images, device)
    held_out = Pixels(dataset.validation.images, device, like=pixels)
    step_network = torch.compile(network) if train.compile else network
    optim = optimizer(network, train)
    tracker, first = EmbeddingTracker(), 0
    if resume is not None:
        resume.restore(network, optim)
        first = resume.epoch + 1
        tracker.previous = _evaluate(network, pixels)[0] if first > 0 else None
    else:
        init = _evaluate(network, pixels)
        yield EpochRecord(
            epoch=INIT,
            signals=_signals(*init, EmbeddingTracker()) if recording.signals else {},
            summary={},
            checkpoint=partial(capture, INIT, network, optim),
        )
    for epoch in range(first, train.max_epochs):
        started = time.perf_counter()
        torch.manual_seed(streams.integer("dropout", epoch))
        order = torch.randperm(n, generator=streams.generator("order", epoch)).to(device)
        draws = draw(options.augmentation, n, streams.generator("augmentation", epoch))
        network.train()
        loss, first_lr = _train_epoch(
            step_network, optim, pixels, order, draws.to(device), options, epoch
        )
        trained = time.perf_counter()
        summary = {"train_loss": loss.item() / n, "lr": first_lr}
        check_finite(summary["train_loss"], "the training loss", epoch)
        emb, error = _evaluate(network, pixels)
        check_finite(emb.sum(dtype=torch.float64).item(), "the sum of embeddings", epoch)
        check_finite(error.sum().item(), "the sum of errors", epoch)
        summary["val_loss"] = _evaluate(network, held_out)[1].mean().item()
        summary |= {
            "train_seconds": trained - started,
            "eval_seconds": time.perf_counter() - trained,
        }
        last = epoch == train.max_epochs - 1
        yield EpochRecord(
            epoch=epoch,
            signals=_signals(emb, error, tracker) if recording.signals else {},
            summary=summary,
            snapshots=snapshots(recording.snapshots, {"emb": emb}) if last else {},
            checkpoint=partial(capture, epoch, network, optim),
        )


def _train_epoch(
    forward: Callable[[Tensor], Tensor],
    optim: torch.optim.Optimizer,
    pixels: Pixels,
    order: Int64[Tensor, " samples"],
    draws: Float[Tensor, "samples parameters"],
    options: Autoencoder,
    epoch: int,
) -> tuple[Float64[Tensor, ""], float]:
    """One epoch of steps: the loss summed over the samples, the first step's learning rate."""
    train = options.train
    presented = batches(order, train.batch_size)
    steps = len(presented)
    total = torch.zeros((), dtype=torch.float64, device=pixels.device)
    for step, (batch, clean) in enumerate(pixels.units(presented), epoch * steps):
        for group in optim.param_groups:
            group["lr"] = learning_rate(step, train.max_epochs * steps, train)
        unit = augment(options.augmentation, clean, draws[batch])
        with autocast(train, pixels.device):
            again = forward(pixels.normalize(unit))
        loss = mse_loss(again.float(), unit)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        total += loss.detach().double() * len(batch)
    return total, learning_rate(epoch * steps, train.max_epochs * steps, train)


def _network(
    options: Autoencoder, model: ModelOptions, dataset: Dataset, streams: Streams
) -> Reconstruction:
    shape = tuple(dataset.train.images.shape[1:])
    network = build(model, image_shape=shape, n_classes=len(dataset.classes), streams=streams)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("weights", epoch=1))
        return Reconstruction(network, shape, options.decoder_channels)


def _halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from the image's own down to the decoder's first, each half of the one before."""
    sizes = [(height, width)]
    while max(sizes[-1]) > _SEED_SIDE:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


@torch.inference_mode()
def _evaluate(
    network: Reconstruction, pixels: Pixels
) -> tuple[Float[Tensor, "samples width"], Float64[Tensor, " samples"]]:
    """Embeddings and reconstruction errors of clean images, in eval mode."""
    network.eval()
    embs, errors = [], []
    for unit in pixels.blocks():
        emb = network.encoder(pixels.normalize(unit))
        embs.append(emb.float())
        errors.append(signals.reconstruction_error_from_images(network.decoder(emb), unit))
    return torch.cat(embs), torch.cat(errors)


def _signals(emb: Tensor, error: Tensor, tracker: EmbeddingTracker) -> dict[str, np.ndarray]:
    return {"reconstruction_error": error.float().cpu().numpy()} | tracker.update(emb)
