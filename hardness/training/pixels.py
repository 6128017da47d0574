"""Images on the device: uint8 in memory, normalised floats in the network."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class Pixels:
    """Training images as uint8 on the device, with the mean and spread that normalise them.

    Args:
        images: ``[samples, channels, height, width]``.
        device: Where they will live.
    """

    def __init__(
        self, images: UInt8[Tensor, "samples channels height width"], device: torch.device
    ) -> None:
        mean, std = _moments(images)
        self.images = images.to(device)
        self.mean = mean.view(1, -1, 1, 1).to(device)
        self.std = std.view(1, -1, 1, 1).to(device)

    def unit(self, batch: Tensor) -> Float[Tensor, "batch channels height width"]:
        """Images of a batch of rows, in 0..1."""
        return self.images[batch].float() / 255

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
