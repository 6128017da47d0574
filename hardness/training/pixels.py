"""Images of samples as the network reads them: in batches, on the device, normalised."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from hardness.data.image_files import ImageFiles

# Most samples and most numbers that are evaluated at once, so that input gradients fit in memory:
# 111 images of 224 x 224 pixels.
EVAL_BATCH = 512
_EVAL_NUMBERS = 1 << 24
# Number of images used to estimate the mean and standard deviation of a dataset on disk.
MOMENTS_FROM = 10_000


class Pixels:
    """Images as uint8 on the device, with the mean and standard deviation that normalise them.

    Images on disk are copied to the device when they are needed. Their mean and deviation come from
    ``MOMENTS_FROM`` images drawn by the ``data_seed``, or from all if there are fewer.

    Args:
        images: Images ``[samples, channels, height, width]``, as a tensor or as files.
        device: Device of the returned images.
        like: Images whose mean and standard deviation to use, as held-out images must; these
            images' own if left out.
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
        """Number of samples that are evaluated at once."""
        return max(1, min(EVAL_BATCH, _EVAL_NUMBERS // math.prod(self._images.shape[1:])))

    def unit(self, rows: Int64[Tensor, " rows"]) -> Float[Tensor, "rows channels height width"]:
        """Images of these rows, in 0..1."""
        ((_, images),) = self.units([rows])
        return images

    def units(
        self, batches: Sequence[Int64[Tensor, " _"]]
    ) -> Iterator[tuple[Int64[Tensor, " _"], Float[Tensor, "_ channels height width"]]]:
        """Each batch of rows with its images in 0..1; images on disk are decoded ahead."""
        if isinstance(self._images, Tensor):
            for rows in batches:
                yield rows, self._images[rows].float() / 255
            return
        # All rows are copied first, since each copy from a GPU waits for the work before it.
        places = [rows.cpu() for rows in batches]
        pinned = self.device.type == "cuda"
        with closing(self._images.batches(places, pinned=pinned)) as read:
            for rows, images in zip(batches, read, strict=True):
                yield rows, images.to(self.device, non_blocking=True).float() / 255

    def blocks(
        self, rows: Int64[Tensor, " rows"] | None = None
    ) -> Iterator[Float[Tensor, "block channels height width"]]:
        """Images of these rows (all if left out) in 0..1, ``eval_batch`` at a time."""
        if rows is None and isinstance(self._images, Tensor):
            yield from (block.float() / 255 for block in self._images.split(self.eval_batch))
            return
        chosen = torch.arange(len(self)) if rows is None else rows
        for _, images in self.units(chosen.split(self.eval_batch)):
            yield images

    def normalize(
        self, unit: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Input of the network: each channel has mean 0 and deviation 1 over the training set."""
        return (unit - self.mean) / self.std


def _moments(
    blocks: Iterable[UInt8[Tensor, "samples channels height width"]], channels: int
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation of each channel in 0..1, exact from counts of 256 values."""
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for block in blocks:
        for channel, values in enumerate(block.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    std[std == 0] = 1.0  # a constant channel is not scaled
    return mean.float(), std.float()
