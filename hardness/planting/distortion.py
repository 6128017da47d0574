"""Distort uint8 images, as a camera, a scanner or a careless crop would.

Distortions work on pixel values from 0 to 255, before the images are normalised. So a distorted
image has the same range and resolution as the others. Results are rounded to whole intensities.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

_Images = UInt8[Tensor, "images channels height width"]
# ITU-R 601 weights, with which PIL turns colours into grey.
_GREY = (0.299, 0.587, 0.114)


def blurred(images: _Images, sigma: float) -> _Images:
    """Gaussian blur, reflected at the edges.

    Args:
        images: Images to blur.
        sigma: Standard deviation in pixels.

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
    """Independent Gaussian noise on every pixel value, clipped to 0..255.

    Args:
        images: Images to add noise to.
        sigma: Standard deviation on the scale from 0 to 255.
        normal: Standard normal number for each pixel value.

    Example:
        >>> grey = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
        >>> noisy(grey, 50.0, np.array([[[[-3.0, 0.01, 1.0]]]])).tolist()
        [[[[0, 100, 150]]]]
    """
    return _rounded(images.double() + sigma * torch.from_numpy(normal))


def mixed(images: _Images, others: _Images, share: float) -> _Images:
    """Convex mix of each image with another one.

    Args:
        images: Images to mix.
        others: Partner of each image.
        share: Weight of the partner.

    Returns:
        ``(1 - share) * images + share * others``.

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
    """Content of a window on each image, resized to the image's size (bilinear).

    A window larger than the image shrinks the content, a smaller one crops it, and one off the
    middle shifts it. Outside the image, the pixels of its edge are repeated.

    Args:
        images: Images to look at.
        size: Side of each window as a multiple of the image's side.
        center: Horizontal and vertical middle of each window; 0 is the image's middle, -1 and 1
            are its edges.

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
    """Square images after a counterclockwise quarter turn.

    Raises:
        ValueError: If the images are not square.

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
    """Images of another dataset, with the size and channels of this one.

    Args:
        images: Images of any size, grey or RGB.
        channels: Number of channels to return, 1 or 3.
        height: Height to return, in pixels.
        width: Width to return, in pixels.

    Returns:
        Images scaled with antialiasing, with grey repeated or colours turned into grey.

    Raises:
        ValueError: If ``images`` or ``channels`` have neither 1 nor 3 channels.
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
