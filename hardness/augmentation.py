"""Batched augmentation on the device, with parameters drawn per sample.

A sample's result depends on its pixels and its own row of uniform numbers alone, to the last bit,
whatever batch it stands in. Hence two rules for the arithmetic: no fused operation (``add`` with
``alpha``, ``lerp``, ``addcmul``) and no transcendental function, both of which may round another
way at a tensor's tail, and no floating-point sum whose order could follow the batch's shape.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

# Luma of ITU-R 601 as torchvision rounds it.
_LUMA = (0.2989, 0.587, 0.114)
_RGB = 3
_COLUMNS = {
    "pad": ("shift_y", "shift_x"),
    "crop_scale": ("area", "aspect", "top", "left"),
    "flip": ("flip",),
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "saturation": ("saturation",),
    "grayscale": ("grayscale",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Which operations, and how strong; all off by default. They apply in the order below.

    Args:
        pad: Shift by whole pixels, ``-pad`` to ``pad`` along each axis, edges filled by
            reflection; the same as padding by reflection and cropping at random.
        crop_scale: Smallest and largest share of the area of a random crop, resized to the
            whole image (bilinear). Its aspect, relative to the image's, lies between 3/4 and
            4/3, log-uniform to within 1 %, as far as a crop of that area fits.
        flip: Probability of a horizontal flip.
        brightness: Intensities are multiplied by a factor from ``1 - brightness`` (not below 0)
            to ``1 + brightness``.
        contrast: Likewise for the distance to the image's mean grey.
        saturation: Likewise for the distance to each pixel's grey; skipped unless RGB.
        grayscale: Probability of replacing colours by grey; skipped unless RGB.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> augmentation = Augmentation(pad=1, flip=0.5)
        >>> parameters = augmentation.draw(100, torch.Generator().manual_seed(0))
        >>> parameters.shape
        torch.Size([100, 3])
        >>> images = torch.rand(2, 3, 8, 8)
        >>> augmentation.apply(images, parameters[[7, 42]]).shape
        torch.Size([2, 3, 8, 8])
    """

    pad: int = 0
    crop_scale: tuple[float, float] | None = None
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grayscale: float = 0.0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad: expected at least 0; came {self.pad}")
        for name in ("flip", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1; came {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected at least 0; came {getattr(self, name)}")
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                "crop_scale: expected two shares of the area, ascending, above 0 and up to 1; "
                f"came {self.crop_scale}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters, none for an operation that is off."""
        return tuple(c for name, group in _COLUMNS.items() if getattr(self, name) for c in group)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, "samples parameters"]:
        """Uniform numbers in [0, 1) for all samples at once, to be indexed by sample.

        Args:
            n: How many samples.
            generator: On the CPU; left untouched if no operation is on.

        Returns:
            One row a sample, one column for each of `columns`.
        """
        return torch.rand(n, len(self.columns), generator=generator)

    def apply(
        self,
        images: Float[Tensor, "batch channels height width"]
        | UInt8[Tensor, "batch channels height width"],
        parameters: Float[Tensor, "batch parameters"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Augment a batch.

        Args:
            images: Intensities in [0, 1], or in 0..255 if uint8; never changed in place.
            parameters: The batch's rows of `draw`.

        Returns:
            Intensities in [0, 1], float32; the images themselves if they are such already and
            no operation is on.

        Raises:
            ValueError: If the parameters are another augmentation's, or ``pad`` reaches beyond
                the image.
        """
        if parameters.shape[1] != len(self.columns):
            raise ValueError(
                f"parameters: expected {len(self.columns)} columns; came {parameters.shape[1]}"
            )
        columns = parameters.to(images.device, non_blocking=True).unbind(dim=1)
        u = dict(zip(self.columns, columns, strict=True))
        images = self._moved(images, u)
        images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if self.crop_scale:
            images = self._cropped(images, u)
        return self._coloured(images, u)

    def _moved(self, images: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Shift, and flip unless the crop does it, by copying pixels."""
        flip = self.flip and not self.crop_scale
        if not (self.pad or flip):
            return images
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device)[None]
        columns = torch.arange(width, device=images.device)[None]
        if flip:
            columns = torch.where((u["flip"] < self.flip)[:, None], width - 1 - columns, columns)
        if self.pad:
            rows = self._shifted(rows, u["shift_y"], height)
            columns = self._shifted(columns, u["shift_x"], width)
        source = rows[:, :, None] * width + columns[:, None, :]
        source = source.flatten(1)[:, None].expand(*images.shape[:2], -1)
        return images.flatten(2).gather(2, source).view_as(images)

    def _shifted(self, positions: Tensor, u: Tensor, size: int) -> Tensor:
        if self.pad >= size:
            raise ValueError(f"pad: expected less than the image's {size} pixels; came {self.pad}")
        offset = (u * (2 * self.pad + 1)).long().clamp_(max=2 * self.pad) - self.pad
        last = size - 1
        return last - (last - (positions + offset[:, None]).abs()).abs()

    def _cropped(self, images: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Crop, resize and flip through one affine grid, separable into its two axes."""
        assert self.crop_scale is not None
        low, high = self.crop_scale
        pixels = images.shape[2:]
        area = low + (high - low) * u["area"]
        # (7 + v) / (7 - v) for v from -1 to 1 runs from 3/4 to 4/3, its logarithm nearly linear;
        # the bound keeps the longer side within the image.
        bound = (7 * (1 - area) / (1 + area)).clamp(0, 1)
        v = (2 * u["aspect"] - 1) * bound
        aspect = (7 + v) / (7 - v)
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        sign = torch.where(u["flip"] < self.flip, -1.0, 1.0) if self.flip else 1.0
        x = _axis(pixels[1], width, u["left"], sign)[:, None, :]
        y = _axis(pixels[0], height, u["top"], 1.0)[:, :, None]
        grid = torch.stack((x.expand(-1, *pixels), y.expand(-1, *pixels)), dim=-1)
        # "border", since zeros would darken an edge wherever rounding puts it a hair outside.
        return grid_sample(images, grid, padding_mode="border", align_corners=False).clamp_(0, 1)

    def _coloured(self, images: Tensor, u: dict[str, Tensor]) -> Tensor:
        """Colour operations in place, on a copy: fresh memory costs more than the arithmetic."""
        if not (self.brightness or self.contrast or self.saturation or self.grayscale):
            return images
        factor = _factor(u["brightness"], self.brightness) if self.brightness else 1.0
        images = (images * factor).clamp_(0, 1)
        if self.contrast:
            _blend_(images, _exact_mean(_grey(images)), _factor(u["contrast"], self.contrast))
        if self.saturation and images.shape[1] == _RGB:
            _blend_(images, _grey(images), _factor(u["saturation"], self.saturation))
        if self.grayscale and images.shape[1] == _RGB:
            kept = (u["grayscale"] >= self.grayscale).float()[:, None, None, None]
            _blend_(images, _grey(images), kept)
        return images


def _axis(size: int, share: Tensor, u: Tensor, sign: Tensor | float) -> Tensor:
    """Where the output's pixel centres lie in the input, -1 to 1 from edge to edge."""
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
    """Mean over pixels of intensities rounded to 2**-16: whole numbers add up in any order."""
    total = (grey * 2**16).round_().sum((1, 2, 3), keepdim=True, dtype=torch.float64)
    return (total / (2**16 * math.prod(grey.shape[1:]))).to(grey.dtype)
