"""Distorted images in uint8: what a camera, a scanner or a careless crop does before training.

Everything happens to pixel values from 0 to 255, before the one transform that all images go
through, so that no distorted image leaves the range or the resolution of the others.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

_Images = UInt8[Tensor, "images channels height width"]
# ITU-R 601: the weights with which PIL turns colours into grey.
_GREY = (0.299, 0.587, 0.114)


def blurred(images: _Images, sigma: float) -> _Images:
    """Gaussian blur, reflected at the edges.

    Args:
        images: What to blur.
        sigma: Standard deviation in pixels.

    Returns:
        Rounded to whole intensities.

    Example:
        >>> point = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
        >>> point[0, 0, 1, 1] = 255
        >>> blurred(point, 0.5)[0, 0, 1].tolist()
        [21, 158, 21]
    """
    smooth = ndimage.gaussian_filter(
        images.numpy().astype(np.float64), (0, 0, sigma, sigma), mode="reflect"
    )
    return _rounded(torch.from_numpy(smooth))


def noisy(
    images: _Images, sigma: float, normal: Float64[np.ndarray, "images channels height width"]
) -> _Images:
    """Independent Gaussian noise on every number, cut off at 0 and 255.

    Args:
        images: What to disturb.
        sigma: Standard deviation in intensities, of 255.
        normal: One standard normal number for each.

    Returns:
        Rounded to whole intensities.

    Example:
        >>> grey = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
        >>> noisy(grey, 50.0, np.array([[[[-3.0, 0.01, 1.0]]]])).tolist()
        [[[[0, 100, 150]]]]
    """
    return _rounded(images.double() + sigma * torch.from_numpy(normal))


def mixed(images: _Images, others: _Images, share: float) -> _Images:
    """Convex mix of each image with another one.

    Args:
        images: What to mix.
        others: One partner each.
        share: Weight of the partner.

    Returns:
        ``(1 - share) * images + share * others``, rounded to whole intensities.

    Example:
        >>> black, white = (torch.full((1, 1, 1, 1), v, dtype=torch.uint8) for v in (0, 255))
        >>> mixed(black, white, 0.2).item()
        51
    """
    return _rounded((1 - share) * images.double() + share * others.double())


def windowed(
    images: _Images,
    size: Float[Tensor, " images"],
    center: Float[Tensor, "images 2"],
) -> _Images:
    """What a square window shows of each image, stretched to the whole image (bilinear).

    A window larger than the image makes its content small, a smaller one crops it, one beside
    the middle shifts it. Beyond the edge the edge's pixels go on.

    Args:
        images: What to look at.
        size: Side of each window; 1 is the image's.
        center: Horizontal and vertical middle of each window; 0 is the image's, -1 and 1 its
            edges.

    Returns:
        Of the same size, rounded to whole intensities.

    Example:
        >>> ramp = torch.tensor([[[[0, 50, 100, 150]]]], dtype=torch.uint8)
        >>> windowed(ramp, torch.tensor([1.0]), torch.tensor([[0.5, 0.0]])).tolist()
        [[[[50, 100, 150, 150]]]]
    """
    matrix = torch.zeros(len(images), 2, 3, dtype=torch.float64)
    matrix[:, [0, 1], [0, 1]] = size.double()[:, None]
    matrix[:, :, 2] = center.double()
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    seen = functional.grid_sample(
        images.double(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return _rounded(seen)


def negative(images: _Images) -> _Images:
    """The photographic negative.

    Example:
        >>> negative(torch.tensor([[[[0, 55]]]], dtype=torch.uint8)).tolist()
        [[[[255, 200]]]]
    """
    return 255 - images


def turned(images: _Images) -> _Images:
    """A quarter turn counterclockwise of square images.

    Raises:
        ValueError: If they are not square.

    Example:
        >>> turned(torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"expected square images to turn; got {height}x{width}")
    return images.rot90(1, (2, 3)).contiguous()


def fitted(
    images: UInt8[Tensor, "images _ _ _"], channels: int, height: int, width: int
) -> UInt8[Tensor, "images {channels} {height} {width}"]:
    """Images of another dataset in the size and with the channels of this one.

    Args:
        images: Of any size, grey or RGB.
        channels: 1 or 3.
        height: In pixels.
        width: In pixels.

    Returns:
        Scaled with antialiasing; grey repeated, or colours turned into grey.

    Raises:
        ValueError: If channels cannot be made equal.
    """
    got = images.shape[1]
    if {got, channels} - {1, 3}:
        raise ValueError(f"expected images of 1 or 3 channels; got {got} for {channels}")
    pixels = images.double()
    if got > channels:
        pixels = torch.einsum("nchw,c->nhw", pixels, torch.tensor(_GREY).double())[:, None]
    if tuple(images.shape[2:]) != (height, width):
        pixels = functional.interpolate(
            pixels, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
    return _rounded(pixels).expand(-1, channels, -1, -1).contiguous()


def _rounded(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
