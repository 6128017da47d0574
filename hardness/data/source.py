"""The form in which every source gives its data: labels in memory, images read on demand."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8, UInt64
from torch import Tensor

from hardness.data.image_files import ImageFiles, Picture

MEMORY_LIMIT_GIB = 8.0
# Prefix of a source's own columns, so that none is confused with ours. Integers in them may be
# class numbers, which are no degrees of hardness.
SOURCE = "source_"
# Key of the random stream that draws images for mean and spread; 0 and 1 are in ``datasets``.
MOMENTS = 2
T = TypeVar("T")
Ids = Int64[np.ndarray, " ids"]
Labels = Int64[np.ndarray, " samples"]
Images = UInt8[np.ndarray, "images channels height width"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Images with labels and ids, in one order.

    Args:
        images: Tensor, or files that are decoded on demand. 0 is black, 255 full intensity.
        labels: Class indices to learn.
        sample_ids: Positions in the unchanged source, ascending.
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
    """The training or test part of a source: labels in memory, images read on demand.

    Args:
        labels: Labels of all samples.
        pixels: Function from ascending ids to images ``[ids, channels, height, width]``.
        files: Function from ids to the same images left on disk; None if they are not in files.
        on_disk: Whether the images must never be held in memory as a whole.
    """

    labels: Labels
    pixels: Callable[[Ids], Images]
    files: Callable[[Ids], ImageFiles] | None = None
    on_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """An unchanged dataset; the test part is opened only when it is needed."""

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
    """Ascending positions of the ``quotas[class]`` samples of lowest priority in each class.

    Args:
        labels: Labels of all samples to choose from.
        quotas: Number of samples to take from each class; a smaller class gives all it has.
        priorities: Random number of each sample.

    Returns:
        Positions. A larger quota adds samples, and replaces none.
    """
    order = np.lexsort((priorities, labels))
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < quotas[ordered]])


def stack(
    pictures: Iterable[tuple[str, Picture]], n: int, place: str, sizes: str = "", memory: str = ""
) -> Images:
    """One array of ``n`` pictures of one size; grey becomes RGB if any picture is RGB.

    ``sizes`` and ``memory`` are advice, added to the errors about unequal sizes and lack of memory.
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
    """Height and width, written as width x height."""
    height, width = shape
    return f"{width}x{height}"
