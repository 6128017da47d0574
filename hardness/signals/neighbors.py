"""Exact Euclidean nearest neighbors of every sample."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from hardness.limits import REFERENCE
from hardness.seeding import Streams

# Neighbors kept per sample for the metrics that read them.
NEIGHBORS = 20
# Numbers in the largest temporary of a block, 64 MiB in float64.
_BLOCK = 1 << 23
# Candidates beyond k, so that in nearly every row no tie lies at the border.
_SPARE = 16
# Float32 holds the sum of this many products of whole numbers from -128 to 127 exactly.
_EXACT = (1 << 24) // 128**2


def neighbors(
    emb: Float[Tensor, "samples width"], k: int, *, normalize: bool = False
) -> tuple[Float64[Tensor, "samples k"], Int64[Tensor, "samples k"]]:
    """Distances to and rows of the k nearest other samples, nearest first.

    Candidates come from a matrix product. Their distances are computed again from differences, so
    duplicates are at exactly 0. A row gets more candidates if rounding could have hidden its k-th
    neighbor. Equal distances are in the order of their rows. A sample is not its own neighbor, but
    its duplicates are.

    With more than ``REFERENCE`` samples, all neighbors come from one subset of that size. The
    subset depends on the number of samples alone, so it is the same for all runs.

    Args:
        emb: Embeddings of any float type. A row that is not finite is nobody's neighbor.
        k: Number of neighbors, cut to the number of other finite rows; one sample gives ``[1, 0]``.
        normalize: Whether to scale every row to length 1 first; a row of zeros stays.

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
    """Euclidean distances of every image to its k nearest others, with pixels from 0 to 1.

    Pixels are neither centred nor scaled to unit length, so brightness and contrast count. Squared
    distances are computed as whole numbers, so they are exact and the same on every device. Above
    ``REFERENCE`` images, neighbors come from the subset that ``neighbors`` uses.

    Args:
        images: Images as stored, axes in any order.
        k: Number of neighbors, cut to the number of other images.

    Returns:
        Distances on the CPU, nearest first.

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
    # NumPy, since torch's square roots differ in the last bit between devices.
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
    # At least twice the largest rounding error of a sum of `width` products.
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
    """The k nearest candidates of each row, by distance, then by index."""
    candidates = candidates.sort(dim=1).values
    distances = (x[candidates] - x[rows, None]).square().sum(2).sqrt()
    distances.masked_fill_(candidates == rows[:, None], torch.inf)
    nearest = distances.sort(dim=1, stable=True)
    return nearest.values[:, :k], candidates.gather(1, nearest.indices)[:, :k]
