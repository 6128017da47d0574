"""Blocks of samples as tensors, for arrays of either kind."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch

# The same kind in and out.
Array = TypeVar("Array", torch.Tensor, np.ndarray)
# Numbers in a block: on a CPU the float64 temporaries stay in the cache, elsewhere few large
# kernels win.
_CPU_BLOCK = 1 << 17
_DEVICE_BLOCK = 1 << 24


def row_blocks(values: torch.Tensor) -> Iterator[slice]:
    return row_slices(len(values), values.shape[1], values.device)


def row_slices(samples: int, numbers: int, device: torch.device) -> Iterator[slice]:
    """Blocks of samples that have so many numbers each."""
    step = max(1, (_CPU_BLOCK if device.type == "cpu" else _DEVICE_BLOCK) // max(1, numbers))
    return (slice(start, start + step) for start in range(0, samples, step))


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """A copy, also of arrays that torch does not take: read-only, backwards, of foreign bytes."""
    return torch.from_numpy(np.array(values, values.dtype.newbyteorder("="), order="C"))


def to_tensor(values: Any) -> torch.Tensor:
    return as_tensor(values) if isinstance(values, np.ndarray) else values.detach()


def as_matrix(values: Any, name: str) -> torch.Tensor:
    """Embeddings or logits, one row per sample."""
    tensor = to_tensor(values)
    if tensor.ndim != 2:  # noqa: PLR2004 - samples and width
        raise ValueError(f"expected {name} [samples, width]; got shape {shape_of(tensor)}")
    return tensor


def in_kind(values: torch.Tensor, like: Any) -> Any:
    return values.numpy() if isinstance(like, np.ndarray) else values


def shape_of(values: torch.Tensor) -> tuple[int, ...]:
    return tuple(values.shape)
