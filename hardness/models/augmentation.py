"""Augment a batch on the device, with random numbers drawn per sample.

A sample's result depends only on its pixels and its own row of uniform numbers, to the last bit,
in every batch. So two things must not be used. Fused operations (``add`` with ``alpha``, ``lerp``,
``addcmul``) and transcendental functions may round differently at the end of a tensor. The order of
a floating-point sum could depend on the batch's shape.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from hardness.models.options import Augmentation

# ITU-R 601 weights of grey, as torchvision rounds them.
_LUMA = (0.2989, 0.587, 0.114)
_RGB = 3


def draw(
    options: Augmentation, n: int, generator: torch.Generator
) -> Float[Tensor, "samples parameters"]:
    """Uniform numbers in [0, 1) for all samples at once.

    Args:
        options: Operations that need random numbers.
        n: Number of samples.
        generator: Generator on the CPU; not advanced if no operation is on.

    Returns:
        One row per sample, with one column for each of ``options.columns``.
    """
    return torch.rand(n, len(options.columns), generator=generator)


def augment(
    options: Augmentation,
    images: Float[Tensor, "batch channels height width"]
    | UInt8[Tensor, "batch channels height width"],
    parameters: Float[Tensor, "batch parameters"],
) -> Float[Tensor, "batch channels height width"]:
    """Augment a batch.

    Args:
        options: Operations to apply.
        images: Intensities in [0, 1], or in 0..255 if uint8; never changed in place.
        parameters: Rows of `draw` for the samples of the batch.

    Returns:
        Intensities in [0, 1], float32. The input itself if it is float32 and no operation is on.

    Raises:
        ValueError: If ``parameters`` belong to other operations, or ``pad`` is at least as large
            as the image.

    Example:
        >>> options = Augmentation(pad=1, flip=0.5)
        >>> parameters = draw(options, 100, torch.Generator().manual_seed(0))
        >>> parameters.shape
        torch.Size([100, 3])
        >>> images = torch.rand(2, 3, 8, 8)
        >>> augment(options, images, parameters[[7, 42]]).shape
        torch.Size([2, 3, 8, 8])
    """
    if parameters.shape[1] != len(options.columns):
        raise ValueError(
            f"parameters: expected {len(options.columns)} columns; got {parameters.shape[1]}"
        )
    columns = parameters.to(images.device, non_blocking=True).unbind(dim=1)
    u = dict(zip(options.columns, columns, strict=True))
    images = _moved(options, images, u)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if options.crop_scale:
        images = _cropped(options, images, u)
    return _coloured(options, images, u)


def _moved(options: Augmentation, images: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Shift by copying pixels; flip too, unless the crop will do it."""
    flip = options.flip and not options.crop_scale
    if not (options.pad or flip):
        return images
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[None]
    columns = torch.arange(width, device=images.device)[None]
    if flip:
        columns = torch.where((u["flip"] < options.flip)[:, None], width - 1 - columns, columns)
    if options.pad:
        rows = _shifted(options, rows, u["shift_y"], height)
        columns = _shifted(options, columns, u["shift_x"], width)
    source = rows[:, :, None] * width + columns[:, None, :]
    source = source.flatten(1)[:, None].expand(*images.shape[:2], -1)
    return images.flatten(2).gather(2, source).view_as(images)


def _shifted(options: Augmentation, positions: Tensor, u: Tensor, size: int) -> Tensor:
    if options.pad >= size:
        raise ValueError(f"pad: expected less than the image's {size} pixels; got {options.pad}")
    offset = (u * (2 * options.pad + 1)).long().clamp_(max=2 * options.pad) - options.pad
    last = size - 1
    return last - (last - (positions + offset[:, None]).abs()).abs()


def _cropped(options: Augmentation, images: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Crop, resize and flip with one affine grid, computed per axis."""
    assert options.crop_scale is not None
    low, high = options.crop_scale
    pixels = images.shape[2:]
    area = low + (high - low) * u["area"]
    # For v from -1 to 1, (7 + v) / (7 - v) goes from 3/4 to 4/3, and its logarithm is nearly
    # linear. The bound keeps the longer side within the image.
    bound = (7 * (1 - area) / (1 + area)).clamp(0, 1)
    v = (2 * u["aspect"] - 1) * bound
    aspect = (7 + v) / (7 - v)
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    sign = torch.where(u["flip"] < options.flip, -1.0, 1.0) if options.flip else 1.0
    x = _axis(pixels[1], width, u["left"], sign)[:, None, :]
    y = _axis(pixels[0], height, u["top"], 1.0)[:, :, None]
    grid = torch.stack((x.expand(-1, *pixels), y.expand(-1, *pixels)), dim=-1)
    # With zeros instead of "border", rounding could darken the edges.
    return grid_sample(images, grid, padding_mode="border", align_corners=False).clamp_(0, 1)


def _coloured(options: Augmentation, images: Tensor, u: dict[str, Tensor]) -> Tensor:
    """Apply colour operations in place on one copy: new memory costs more than arithmetic."""
    if not (options.brightness or options.contrast or options.saturation or options.grayscale):
        return images
    factor = _factor(u["brightness"], options.brightness) if options.brightness else 1.0
    images = (images * factor).clamp_(0, 1)
    if options.contrast:
        _blend_(images, _exact_mean(_grey(images)), _factor(u["contrast"], options.contrast))
    if options.saturation and images.shape[1] == _RGB:
        _blend_(images, _grey(images), _factor(u["saturation"], options.saturation))
    if options.grayscale and images.shape[1] == _RGB:
        kept = (u["grayscale"] >= options.grayscale).float()[:, None, None, None]
        _blend_(images, _grey(images), kept)
    return images


def _axis(size: int, share: Tensor, u: Tensor, sign: Tensor | float) -> Tensor:
    """Positions of the output's pixel centres in the input, whose edges are at -1 and 1."""
    centres = (2 * torch.arange(size, device=share.device) + 1) / size - 1
    middle = (1 - share) * (2 * u - 1)
    return middle[:, None] + (share * sign)[:, None] * centres


def _factor(u: Tensor, strength: float) -> Tensor:
    low = max(0.0, 1 - strength)
    return (low + (1 + strength - low) * u)[:, None, None, None]


def _blend_(images: Tensor, other: Tensor, factor: Tensor) -> None:
    images.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != _RGB:
        return images
    red, green, blue = images.unbind(dim=1)
    return (red * _LUMA[0]).add_(green * _LUMA[1]).add_(blue * _LUMA[2])[:, None]


def _exact_mean(grey: Tensor) -> Tensor:
    """Mean intensity, rounded to 2**-16 per pixel so that the order of the sum has no effect."""
    total = (grey * 2**16).round_().sum((1, 2, 3), keepdim=True, dtype=torch.float64)
    return (total / (2**16 * math.prod(grey.shape[1:]))).to(grey.dtype)
