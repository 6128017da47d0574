"""Exact Euclidean nearest neighbors of every sample, in blocks on the device of the embeddings."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from hardness.limits import REFERENCE
from hardness.seeding import Streams

# How many of each sample are kept for the metrics that read them.
NEIGHBORS = 20
# Numbers in the largest temporary of a block, 64 MiB in float64.
_BLOCK = 1 << 23
# Candidates beyond k: enough to leave ties at the border out of nearly every row.
_SPARE = 16
# Sums of so many products of numbers from -128 to 127 are whole numbers that float32 holds.
_EXACT = (1 << 24) // 128**2


def neighbors(
    emb: Float[Tensor, "samples width"], k: int, *, normalize: bool = False
) -> tuple[Float64[Tensor, "samples k"], Int64[Tensor, "samples k"]]:
    """Distances to and rows of the k nearest other samples, nearest first.

    Candidates come from a matrix product; their distances are computed anew from differences, so
    that duplicates are at exactly 0, and a row whose k-th neighbor rounding could have hidden gets
    more candidates. Equal distances are in the order of their rows. A sample is left out of its own
    neighbors by its row, hence its duplicates count.

    Above ``REFERENCE`` samples all have their neighbors in one subset of that size, which depends
    on the number of samples alone and is therefore the same for all runs.

    Args:
        emb: Any float type. A row that is not finite is no one's neighbor.
        k: Cut to the number of other finite rows, so that a single sample gives ``[1, 0]``.
        normalize: Scale every row to length 1 first; a row of zeros stays.

    Returns:
        Distances and rows; NaN and -1 for a row that is not finite.

    Raises:
        ValueError: If k is below 1.

    Example:
        >>> distances, rows = neighbors(torch.tensor([[0.0], [1.0], [3.0]]), k=5)
        >>> distances.tolist(), rows.tolist()
        ([[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]], [[1, 2], [0, 2], [1, 0]])
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    finite = emb.isfinite().all(1).nonzero()[:, 0]
    x = emb.detach()[finite].double()
    if normalize:
        x = _normalized(x)
    pool = _reference(len(emb)).to(emb.device)[finite].nonzero()[:, 0]
    k = min(k, max(0, len(pool) - 1))
    distances = torch.full((len(emb), k), torch.nan, dtype=torch.float64, device=emb.device)
    indices = torch.full((len(emb), k), -1, dtype=torch.int64, device=emb.device)
    if k:
        square, others = x.square().sum(1), _of_pool(x, pool)
        for rows in _blocks(x, pool):
            nearest, which = _of_rows(x, square, rows, pool, others, k)
            distances[finite[rows]] = nearest
            indices[finite[rows]] = finite[which]
    return distances, indices


def pixel_distances(images: UInt8[Tensor, "samples ..."], k: int) -> Float64[Tensor, "samples k"]:
    """Euclidean distances of every image to its k nearest others, pixel by pixel in 0 to 1.

    Pixels are neither centred nor scaled to unit length, so that brightness and contrast count.
    Squared distances are whole numbers and computed as such, so that they are exact and the same
    on every device; above ``REFERENCE`` images neighbors come from the subset of ``neighbors``.

    Args:
        images: As stored, axes in any order.
        k: Cut to the number of other images.

    Returns:
        Distances on the CPU, nearest first, wherever the images are.

    Raises:
        ValueError: If k is below 1 or images are not uint8.

    Example:
        >>> images = torch.tensor([[0, 0], [0, 51], [0, 255]], dtype=torch.uint8)
        >>> pixel_distances(images, k=2).tolist()
        [[0.2, 1.0], [0.2, 0.8], [0.8, 1.0]]
    """
    if k < 1:
        raise ValueError(f"expected k of at least 1; got {k}")
    if images.dtype != torch.uint8:
        raise ValueError(f"expected images as uint8, 0 to 255; got {images.dtype}")
    x = images.flatten(1).float() - 128.0
    pool = _reference(len(x)).to(x.device).nonzero()[:, 0]
    k = min(k, max(0, len(pool) - 1))
    nearest = torch.empty((len(x), k), dtype=torch.float64, device=x.device)
    if k:
        square = torch.cat([part.square().sum(1, dtype=torch.float64) for part in x.split(4096)])
        others = _of_pool(x, pool)
        for rows in _blocks(x, pool):
            squared = square[rows, None] + square[pool]
            for mine, theirs in zip(x[rows].split(_EXACT, 1), others.split(_EXACT, 1), strict=True):
                squared -= 2.0 * (mine @ theirs.T)
            _leave_out_itself(squared, rows, pool)
            nearest[rows] = squared.topk(k, largest=False).values
    # Torch's own roots differ in their last bit from one device to another.
    return torch.from_numpy(np.sqrt(nearest.cpu().numpy()) / 255)


def _reference(samples: int) -> Tensor:
    """Which samples can be neighbors, as a mask."""
    mask = torch.ones(samples, dtype=torch.bool)
    if samples > REFERENCE:
        generator = Streams(seed=0, salt="neighbors").generator("order")
        mask[torch.randperm(samples, generator=generator)[REFERENCE:]] = False
    return mask


def _normalized(x: Tensor) -> Tensor:
    # Scaled by the largest number first: the square of 1e-200 would be 0.
    scaled = x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / length.where(length > 0, 1.0)


def _of_pool(x: Tensor, pool: Tensor) -> Tensor:
    return x if len(pool) == len(x) else x[pool]


def _blocks(x: Tensor, pool: Tensor) -> tuple[Tensor, ...]:
    return torch.arange(len(x), device=x.device).split(max(1, _BLOCK // len(pool)))


def _leave_out_itself(table: Tensor, rows: Tensor, pool: Tensor) -> None:
    """Put every row of the table that has a column of its own at an infinite distance there."""
    column = torch.searchsorted(pool, rows).clamp(max=len(pool) - 1)
    own = pool[column] == rows
    table[own.nonzero()[:, 0], column[own]] = torch.inf


def _of_rows(
    x: Tensor, square: Tensor, rows: Tensor, pool: Tensor, others: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    approximate = square[rows, None] + square[pool] - 2.0 * (x[rows] @ others.T)
    _leave_out_itself(approximate, rows, pool)
    border, candidates = approximate.topk(min(k + _SPARE, len(pool)), largest=False)
    distances, indices = _exact(x, rows, pool[candidates], k)
    if candidates.shape[1] == len(pool):
        return distances, indices
    # At least twice the largest error of a sum of so many products.
    error = 4.0 * (x.shape[1] + 4) * torch.finfo(x.dtype).eps * (square[rows] + square.max())
    reach = distances[:, -1].square() + error
    for row in (border[:, -1] <= reach).nonzero()[:, 0].tolist():
        wider = pool[(approximate[row] <= reach[row]).nonzero()[:, 0]]
        distances[row], indices[row] = _nearest(x, rows[row : row + 1], wider[None], k)
    return distances, indices


def _exact(x: Tensor, rows: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    step = max(1, _BLOCK // (candidates.shape[1] * max(1, x.shape[1])))
    parts = [
        _nearest(x, rows[start : start + step], candidates[start : start + step], k)
        for start in range(0, len(rows), step)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _nearest(x: Tensor, rows: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each row's candidates, by distance, then by index."""
    candidates = candidates.sort(dim=1).values
    distances = (x[candidates] - x[rows, None]).square().sum(2).sqrt()
    distances.masked_fill_(candidates == rows[:, None], torch.inf)
    nearest = distances.sort(dim=1, stable=True)
    return nearest.values[:, :k], candidates.gather(1, nearest.indices)[:, :k]
