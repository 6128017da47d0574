"""Images on the device: uint8 in memory, normalised floats in the network."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

# Samples that are evaluated at once.
EVAL_BATCH = 512


class Pixels:
    """Images as uint8 on the device, with the mean and spread that normalise them.

    Args:
        images: ``[samples, channels, height, width]``.
        device: Where they will live.
        like: Normalise as these do, as held-out images have to be; by the images' own moments, if
            left out.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "samples channels height width"],
        device: torch.device,
        like: "Pixels | None" = None,
    ) -> None:
        self._images = images.to(device)
        self.mean: Tensor
        self.std: Tensor
        if like is not None:
            self.mean, self.std = like.mean, like.std
        else:
            self.mean, self.std = (m.view(1, -1, 1, 1).to(device) for m in _moments(images))

    def __len__(self) -> int:
        return len(self._images)

    @property
    def device(self) -> torch.device:
        """Where the images live."""
        return self._images.device

    def unit(self, rows: Int64[Tensor, " rows"]) -> Float[Tensor, "rows channels height width"]:
        """Images of these rows, in 0..1."""
        return self._images[rows].float() / 255

    def blocks(
        self, rows: Int64[Tensor, " rows"] | None = None, size: int = EVAL_BATCH
    ) -> Iterator[Float[Tensor, "block channels height width"]]:
        """Images of these rows, of all if left out, in 0..1, so many at a time."""
        n = len(self) if rows is None else len(rows)
        for start in range(0, n, size):
            block = slice(start, start + size)
            chosen = self._images[block] if rows is None else self._images[rows[block]]
            yield chosen.float() / 255

    def normalize(
        self, unit: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """What the network sees: zero mean and unit spread a channel over the training set."""
        return (unit - self.mean) / self.std


def _moments(
    images: UInt8[Tensor, "samples channels height width"],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation a channel in 0..1, exact from counts of the 256 values."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for block in images.split(4096):
        for channel, values in enumerate(block.unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    std[std == 0] = 1.0  # a constant channel carries nothing to scale
    return mean.float(), std.float()
