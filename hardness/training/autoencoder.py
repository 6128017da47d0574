"""Train an autoencoder, and record embeddings and reconstruction errors each epoch."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hardness.data.datasets import Dataset
from hardness.dynamics.checkpoint import Checkpoint
from hardness.dynamics.record import INIT, EpochRecord, Recording
from hardness.models.networks import Network
from hardness.models.options import ModelOptions
from hardness.seeding import Streams
from hardness.signals import embeddings as embedding_signals
from hardness.signals.tracking import EmbeddingTracker, snapshots
from hardness.training.loop import Evaluated, Setup, Trained, train
from hardness.training.optimization import check_finite
from hardness.training.options import Autoencoder
from hardness.training.pixels import Pixels

# The decoder starts from at most this many pixels per side.
_SEED_SIDE = 4
# Most channels of a decoder layer, as a multiple of those at the image's own size.
_MOST_CHANNELS = 8


class Reconstruction(nn.Module):
    """The encoder of a network and a convolutional decoder; the classifier's head is dropped.

    The decoder turns the embedding into a few pixels with many channels. Then it doubles each side
    and convolves, until the image's shape is reached. It works for every image shape.
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
        """Reconstructions, in 0..1 like the pixels before normalisation."""
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
    """Train an encoder and a decoder to reconstruct images; labels are never read.

    The loss is the mean squared error over pixels in 0..1. Signals are computed on clean images in
    eval mode: ``reconstruction_error``, the mean squared error of each sample, and
    ``feature_norm``, ``msd`` and ``msd_cosine`` of the embedding. The validation loss is the mean
    error of the validation images.

    Raises:
        Diverged: If loss, errors or embeddings are no longer finite.
    """
    recording = recording or Recording()
    setup = Setup(dataset, model, options, streams, torch.device(device), recording)
    yield from train(_Autoencoder, setup, resume)


class _Autoencoder:
    """An encoder and a decoder, and the embedding of the epoch before."""

    def __init__(self, setup: Setup[Autoencoder]) -> None:
        shape = tuple(setup.dataset.train.images.shape[1:])
        channels = setup.options.decoder_channels
        self.recording = setup.recording
        self.network = setup.extended(lambda network: Reconstruction(network, shape, channels))
        self.networks = [self.network]
        self.pixels, self.held_out = setup.pixels()
        self.tracker = EmbeddingTracker()

    def start(self, resume: Checkpoint) -> Evaluated:
        found = self._signals(*self._evaluate(self.pixels))
        if resume.epoch == INIT:
            self.tracker = EmbeddingTracker()
        return Evaluated(signals=found)

    def orders(self, order: Tensor, _epoch: int) -> list[Tensor]:
        return [order]

    def loss(self, again: Tensor, images: Tensor, _rows: Tensor) -> tuple[Tensor, None]:
        return mse_loss(again, images), None

    def evaluate(self, trained: Trained) -> Evaluated:
        emb, error = self._evaluate(self.pixels)
        emb_sum, error_sum = emb.sum(dtype=torch.float64).item(), error.sum().item()
        check_finite(emb_sum, "the sum of embeddings", trained.epoch)
        check_finite(error_sum, "the sum of errors", trained.epoch)
        wanted = self.recording.snapshots if trained.last else ()
        return Evaluated(
            signals=self._signals(emb, error),
            summary={
                "train_loss": trained.loss,
                "lr": trained.lr,
                "val_loss": self._evaluate(self.held_out)[1].mean().item(),
            },
            snapshots=snapshots(wanted, {"emb": emb}),
        )

    @torch.inference_mode()
    def _evaluate(
        self, pixels: Pixels
    ) -> tuple[Float[Tensor, "samples width"], Float64[Tensor, " samples"]]:
        """Embeddings and reconstruction errors of clean images, in eval mode."""
        self.network.eval()
        embs, errors = [], []
        for unit in pixels.blocks():
            emb = self.network.encoder(pixels.normalize(unit))
            embs.append(emb.float())
            errors.append(
                embedding_signals.reconstruction_error_from_images(self.network.decoder(emb), unit)
            )
        return torch.cat(embs), torch.cat(errors)

    def _signals(self, emb: Tensor, error: Tensor) -> dict[str, np.ndarray]:
        if not self.recording.signals:
            return {}
        found = {"reconstruction_error": error.float().cpu().numpy()}
        return found | self.tracker.update(emb)


def _halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from the image's own down to the decoder's first; each is half of the one before."""
    sizes = [(height, width)]
    while max(sizes[-1]) > _SEED_SIDE:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes
