"""Metrics of the pixels alone, the baselines that anything learned must beat."""

import io
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from hardness.metrics.registry import metric

# Images per block, so that float64 copies stay small.
_BLOCK = 512


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    scope="pixels",
    summary="entropy of the histogram of pixel values",
    paper="Shannon, 1948",
    variants={"channel_mean": {"channel_mean": True}},
)
def image_entropy(
    images: UInt8[np.ndarray, "samples height width channels"], *, channel_mean: bool = False
) -> Float64[np.ndarray, " samples"]:
    """Shannon entropy of an image's pixel values, all channels pooled into 256 bins.

    High is taken to be hard: the image shows more. A baseline.

    Args:
        images: Images as stored, before any normalization.
        channel_mean: Whether to take the mean entropy of one histogram per channel instead.

    Returns:
        One entropy per sample in 0 to 8 bits.

    Raises:
        ValueError: If images are not uint8.

    Example:
        >>> images = np.array([0, 0, 255, 255], dtype=np.uint8).reshape(1, 2, 2, 1)
        >>> image_entropy(images).tolist()
        [1.0]

    References:
        Shannon, "A Mathematical Theory of Communication", 1948, applied to the observed shares of
        the values. Agrees with scikit-image's shannon_entropy of the whole array.
    """
    if not channel_mean:
        return _per_block(images, lambda block: _entropy_bits(block.reshape(len(block), -1)))
    channels = [
        _per_block(images[..., c : c + 1], lambda b: _entropy_bits(b.reshape(len(b), -1)))
        for c in range(images.shape[3])
    ]
    return np.mean(channels, axis=0)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    scope="pixels",
    summary="bytes after lossless compression",
    paper="Deutsch and Gailly, RFC 1950",
    variants={"png": {"codec": "png"}},
)
def image_compressed_size(
    images: UInt8[np.ndarray, "samples height width channels"],
    *,
    codec: Literal["zlib", "png"] = "zlib",
) -> Float64[np.ndarray, " samples"]:
    """Bytes of an image's raw buffer after zlib at level 9.

    High is taken to be hard: texture and noise do not compress. A baseline.

    Args:
        images: Images as stored, before any normalization.
        codec: ``zlib``, or ``png`` for the bytes of Pillow's PNG file at level 9, which exploits
            that neighboring pixels are alike.

    Returns:
        One number of bytes per sample.

    Raises:
        ValueError: If images are not uint8, or for a PNG do not have 1, 3 or 4 channels.

    Example:
        >>> flat = np.zeros((1, 8, 8, 3), dtype=np.uint8)
        >>> noise = np.random.default_rng(0).integers(0, 256, flat.shape, dtype=np.uint8)
        >>> bool(image_compressed_size(flat) < image_compressed_size(noise))
        True

    References:
        Deutsch and Gailly, "ZLIB Compressed Data Format Specification", RFC 1950. Deterministic for
        a given zlib. The size of a PNG also depends on its encoder, so PNG is the second choice.
    """
    size = _png_size if codec == "png" else _zlib_size
    return np.array([size(image) for image in _bytes(images)], dtype=np.float64)


@metric(
    family="unsupervised",
    sign=1,
    sign_origin="hypothesis",
    labels_used="none",
    scope="pixels",
    summary="sum of the differences between adjacent pixels",
    paper="Rudin, Osher and Fatemi, Physica D 1992",
)
def total_variation(
    images: UInt8[np.ndarray, "samples height width channels"],
) -> Float64[np.ndarray, " samples"]:
    """Sum over channels of absolute differences between pixels adjacent in a row or a column.

    High is taken to be hard: the image has edges and texture. A baseline.

    Args:
        images: Images as stored, values 0 to 255, before any normalization.

    Returns:
        One sum per sample, from 0; it grows with the size of the image.

    Raises:
        ValueError: If images are not uint8.

    Example:
        >>> images = np.array([0, 10, 0, 30], dtype=np.uint8).reshape(1, 2, 2, 1)
        >>> total_variation(images).tolist()
        [60.0]

    References:
        Rudin, Osher and Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms", Physica
        D 1992, who sum the length of the gradient. The sum of absolute differences, its anisotropic
        form, is the formula of tf.image.total_variation.
    """
    return _per_block(images, _variation)


@metric(
    family="unsupervised",
    sign=-1,
    sign_origin="hypothesis",
    labels_used="none",
    scope="pixels",
    summary="norm of the pixel values",
    paper="Kirsch, 2023",
)
def image_l2_norm(
    images: UInt8[np.ndarray, "samples height width channels"],
) -> Float64[np.ndarray, " samples"]:
    """Euclidean norm of an image's pixel values.

    Low is taken to be hard: dark images show less. A control for gradient norms, which follow the
    norm of the input before training.

    Args:
        images: Images as stored, values 0 to 255, before any normalization.

    Returns:
        One norm per sample, from 0; it grows with the size of the image.

    Raises:
        ValueError: If images are not uint8.

    Example:
        >>> image_l2_norm(np.array([3, 0, 4, 0], dtype=np.uint8).reshape(1, 2, 2, 1)).tolist()
        [5.0]

    References:
        Kirsch, "Does 'Deep Learning on a Data Diet' reproduce? Overall yes, but GraNd at
        Initialization does not", arXiv:2303.14753, 2023, which names the input's norm as a cheap
        baseline. Our networks see normalized images, which have another norm.
    """
    return _per_block(
        images,
        lambda block: np.linalg.norm(block.reshape(len(block), -1).astype(np.float64), axis=1),
    )


def _bytes(images: np.ndarray) -> UInt8[np.ndarray, "samples height width channels"]:
    """The images themselves, if they are uint8.

    Raises:
        ValueError: If they are not: pixels in 0 to 1 would all be cut off to 0.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"expected images as uint8, 0 to 255; got {images.dtype}")
    return images


def _per_block(
    images: np.ndarray, of_block: Callable[[np.ndarray], np.ndarray]
) -> Float64[np.ndarray, " samples"]:
    images = _bytes(images)
    raw = np.empty(len(images))
    for start in range(0, len(images), _BLOCK):
        raw[start : start + _BLOCK] = of_block(images[start : start + _BLOCK])
    return raw


def _zlib_size(image: UInt8[np.ndarray, "height width channels"]) -> int:
    return len(zlib.compress(image.tobytes(), level=9))


def _png_size(image: UInt8[np.ndarray, "height width channels"]) -> int:
    channels = image.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(f"expected images of 1, 3 or 4 channels for a PNG; got {channels}")
    file = io.BytesIO()
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    picture.save(file, format="png", compress_level=9)
    return file.tell()


def _entropy_bits(values: UInt8[np.ndarray, "samples values"]) -> np.ndarray:
    # One histogram for the block: each row counts in 256 bins of its own.
    bins = values + 256 * np.arange(len(values))[:, None]
    counts = np.bincount(bins.ravel(), minlength=256 * len(values)).reshape(-1, 256)
    p = counts / values.shape[1]
    return -(p * np.log2(p, out=np.zeros_like(p), where=counts > 0)).sum(axis=1)


def _variation(block: UInt8[np.ndarray, "samples height width channels"]) -> np.ndarray:
    signed = block.astype(np.int32)  # uint8 differences would wrap around
    down = np.abs(np.diff(signed, axis=1)).sum(axis=(1, 2, 3))
    right = np.abs(np.diff(signed, axis=2)).sum(axis=(1, 2, 3))
    return (down + right).astype(np.float64)
