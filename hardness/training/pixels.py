"""Images on the device: uint8 in memory or from disk, normalised floats in the network."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from hardness.data.image_files import ImageFiles

# Samples that are evaluated at once, fewer where their images hold more numbers than that: 111 of
# 224 pixels, whose gradients with respect to the input would else not fit.
EVAL_BATCH = 512
_EVAL_NUMBERS = 1 << 24
# Of images on disk so many say what mean and spread are.
MOMENTS_FROM = 10_000


class Pixels:
    """Images as uint8 on the device, with the mean and spread that normalise them.

    Those on disk come to the device as they are asked for. Their mean and spread are those of
    ``MOMENTS_FROM`` of them, drawn by the ``data_seed``; of all, if there are no more.

    Args:
        images: ``[samples, channels, height, width]``.
        device: Where they will live.
        like: Normalise as these do, as held-out images have to be; by the images' own moments, if
            left out.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "samples channels height width"] | ImageFiles,
        device: torch.device,
        like: "Pixels | None" = None,
    ) -> None:
        self.mean: Tensor
        self.std: Tensor
        self._images: Tensor | ImageFiles
        if isinstance(images, ImageFiles):
            self._images, self.device = images, device
            blocks = images.batches(images.sample(MOMENTS_FROM).split(EVAL_BATCH))
        else:
            self._images = images.to(device)
            self.device = self._images.device
            blocks = iter(images.split(4096))
        if like is not None:
            self.mean, self.std = like.mean, like.std
        else:
            moments = _moments(blocks, images.shape[1])
            self.mean, self.std = (m.view(1, -1, 1, 1).to(device) for m in moments)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def eval_batch(self) -> int:
        """Samples that are evaluated at once."""
        return max(1, min(EVAL_BATCH, _EVAL_NUMBERS // math.prod(self._images.shape[1:])))

    def unit(self, rows: Int64[Tensor, " rows"]) -> Float[Tensor, "rows channels height width"]:
        """Images of these rows, in 0..1."""
        ((_, images),) = self.units([rows])
        return images

    def units(
        self, batches: Sequence[Int64[Tensor, " _"]]
    ) -> Iterator[tuple[Int64[Tensor, " _"], Float[Tensor, "_ channels height width"]]]:
        """Each batch of rows with its images, in 0..1; those on disk are decoded ahead."""
        if isinstance(self._images, Tensor):
            for rows in batches:
                yield rows, self._images[rows].float() / 255
            return
        # All rows at once, since each copy from a device would wait for the work before it.
        places = [rows.cpu() for rows in batches]
        pinned = self.device.type == "cuda"
        with closing(self._images.batches(places, pinned=pinned)) as read:
            for rows, images in zip(batches, read, strict=True):
                yield rows, images.to(self.device, non_blocking=True).float() / 255

    def blocks(
        self, rows: Int64[Tensor, " rows"] | None = None
    ) -> Iterator[Float[Tensor, "block channels height width"]]:
        """Images of these rows, of all if left out, in 0..1, ``eval_batch`` at a time."""
        if rows is None and isinstance(self._images, Tensor):
            yield from (block.float() / 255 for block in self._images.split(self.eval_batch))
            return
        chosen = torch.arange(len(self)) if rows is None else rows
        for _, images in self.units(chosen.split(self.eval_batch)):
            yield images

    def normalize(
        self, unit: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """What the network sees: zero mean and unit spread a channel over the training set."""
        return (unit - self.mean) / self.std


def _moments(
    blocks: Iterable[UInt8[Tensor, "samples channels height width"]], channels: int
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation a channel in 0..1, exact from counts of the 256 values."""
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for block in blocks:
        for channel, values in enumerate(block.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    std[std == 0] = 1.0  # a constant channel carries nothing to scale
    return mean.float(), std.float()
