"""What every source of data offers: labels at hand, images on demand, stable sample ids."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8, UInt64
from torch import Tensor

from hardness.data.image_files import ImageFiles, Picture

MEMORY_LIMIT_GIB = 8.0
# What a source says beside images and labels bears this prefix, so that no column is taken for
# one of ours; numbers of classes among them are no degrees of hardness.
SOURCE = "source_"
MOMENTS = 2
T = TypeVar("T")
Ids = Int64[np.ndarray, " ids"]
Labels = Int64[np.ndarray, " samples"]
Images = UInt8[np.ndarray, "images channels height width"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images with labels and ids, in one order.

    Args:
        images: 0 is black, 255 full intensity. A tensor, or files that are decoded on demand.
        labels: Indices of the classes trained on.
        sample_ids: Positions in the untouched source, ascending.
    """

    images: UInt8[Tensor, "samples channels height width"] | ImageFiles
    labels: Int64[Tensor, " samples"]
    sample_ids: Int64[Tensor, " samples"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int64[Tensor, " rows"]) -> "Samples":
        """Copies of the samples at these positions (not ids); files stay unread."""
        if isinstance(self.images, ImageFiles):
            images: Tensor | ImageFiles = self.images.take(rows)
        else:
            images = self.images[rows]
        return Samples(images=images, labels=self.labels[rows], sample_ids=self.sample_ids[rows])

    def read(self, rows: Int64[Tensor, " rows"]) -> UInt8[Tensor, "rows channels height width"]:
        """Images of the samples at these positions (not ids), in memory."""
        if isinstance(self.images, ImageFiles):
            return self.images.read(rows)
        return self.images[rows]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One part of a source: its labels at hand, its images read on demand.

    Args:
        labels: All of them.
        pixels: Images ``[ids, channels, height, width]`` of the given ascending ids.
        files: The same images left on disk; None where that cannot be.
        on_disk: Never to be held in memory as a whole.
    """

    labels: Labels
    pixels: Callable[[Ids], Images]
    files: Callable[[Ids], ImageFiles] | None = None
    on_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """An untouched dataset; the test part is opened only where asked for."""

    classes: tuple[str, ...]
    train: Part
    test: Callable[[], Part] | None = None
    columns: pd.DataFrame | None = None


class TooLargeError(ValueError):
    """Images would take more memory than ``MEMORY_LIMIT_GIB``."""


def first_of_each_class(
    labels: Int64[np.ndarray, " samples"],
    quotas: Int64[np.ndarray, " classes"],
    priorities: UInt64[np.ndarray, " samples"],
) -> Int64[np.ndarray, " chosen"]:
    """Ascending positions of each class's ``quotas[class]`` samples of lowest priority.

    Args:
        labels: Of all samples to choose from.
        quotas: How many to take of each class; all, where there are no more.
        priorities: A random number for each sample.

    Returns:
        The same samples in any order that the others come in, and more of them for a larger quota.
    """
    order = np.lexsort((priorities, labels))
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < quotas[ordered]])


def stack(
    pictures: Iterable[tuple[str, Picture]], n: int, place: str, sizes: str = "", memory: str = ""
) -> Images:
    """One array of ``n`` pictures of one size; grey becomes RGB where any is RGB.

    ``sizes`` and ``memory`` say what to do about too many of them.
    """
    stack, read = np.empty((0, 0, 0, 0), dtype=np.uint8), 0
    for row, (name, picture) in enumerate(pictures):
        if row == 0:
            _check_memory(n, picture.shape, place, memory)
            stack = np.empty((n, *picture.shape), dtype=np.uint8)
        if picture.shape[1:] != stack.shape[2:]:
            raise ValueError(
                f"{name}: expected one image size, {size(stack.shape[2:])} as in the first "
                f"image; got {size(picture.shape[1:])}{sizes}"
            )
        if len(picture) > stack.shape[1]:
            _check_memory(n, picture.shape, place, memory)
            stack = np.repeat(stack, len(picture), axis=1)
        stack[row] = picture  # a grey picture is broadcast to all three channels
        read += 1
    if read != n:
        raise ValueError(f"{place}: expected {n} images, as many as labels; got {read}")
    return stack


def _check_memory(n: int, shape: tuple[int, ...], place: str, advice: str) -> None:
    gib = n * float(np.prod(shape, dtype=float)) / 2**30
    if gib > MEMORY_LIMIT_GIB:
        advice = advice or ". Take a subset or smaller images"
        raise TooLargeError(
            f"{place}: expected images that take at most {MEMORY_LIMIT_GIB:g} GiB decoded; "
            f"got {n} of {size(shape[1:])} pixels, {gib:.3g} GiB{advice}"
        )


def size(shape: Sequence[int]) -> str:
    height, width = shape
    return f"{width}x{height}"
