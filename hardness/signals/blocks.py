"""Blocks of samples as torch tensors, for torch and NumPy arrays alike."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch

# A function returns the kind of array that it is given.
Array = TypeVar("Array", torch.Tensor, np.ndarray)
# Numbers in a block. On a CPU the float64 temporaries fit into the cache; a GPU prefers few large
# kernels.
_CPU_BLOCK = 1 << 17
_DEVICE_BLOCK = 1 << 24


def row_blocks(values: torch.Tensor) -> Iterator[slice]:
    """Slices that cut the rows of a matrix into blocks."""
    return row_slices(len(values), values.shape[1], values.device)


def row_slices(samples: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Slices that cut samples into blocks; ``numbers`` is the count of values per sample."""
    step = max(1, (_CPU_BLOCK if device.type == "cpu" else _DEVICE_BLOCK) // max(1, numbers))
    return (slice(start, start + step) for start in range(0, samples, step))


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """Copy an array; works for read-only, reversed and byte-swapped ones, which torch refuses."""
    return torch.from_numpy(np.array(values, values.dtype.newbyteorder("="), order="C"))


def to_tensor(values: Any) -> torch.Tensor:
    """A NumPy array as a tensor; a tensor without its gradient."""
    return as_tensor(values) if isinstance(values, np.ndarray) else values.detach()


def as_matrix(values: Any, name: str) -> torch.Tensor:
    """Embeddings or logits as a tensor with one row per sample; refuses any other shape."""
    tensor = to_tensor(values)
    if tensor.ndim != 2:  # noqa: PLR2004 - samples and width
        raise ValueError(f"expected {name} [samples, width]; got shape {shape_of(tensor)}")
    return tensor


def in_kind(values: torch.Tensor, like: Any) -> Any:
    """A tensor as a NumPy array if ``like`` is one."""
    return values.numpy() if isinstance(like, np.ndarray) else values


def shape_of(values: torch.Tensor) -> tuple[int, ...]:
    """Shape as a plain tuple, for error lines."""
    return tuple(values.shape)
