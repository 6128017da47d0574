"""Exact Euclidean nearest neighbors of every sample, in blocks on the device of the embeddings."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

# Numbers in the largest temporary of a block, 64 MiB in float64.
_BLOCK = 1 << 23
# Candidates beyond k: enough to leave ties at the border out of nearly every row.
_SPARE = 16


def neighbors(
    emb: Float[Tensor, "samples width"], k: int, *, normalize: bool = False
) -> tuple[Float64[Tensor, "samples k"], Int64[Tensor, "samples k"]]:
    """Distances to and rows of the k nearest other samples, nearest first.

    Candidates come from a matrix product; their distances are computed anew from differences, so
    that duplicates are at exactly 0, and a row whose k-th neighbor rounding could have hidden gets
    more candidates. Equal distances are in the order of their rows. A sample is left out of its own
    neighbors by its row, hence its duplicates count.

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
        raise ValueError(f"expected k of at least 1; came {k}")
    finite = emb.isfinite().all(1).nonzero()[:, 0]
    x = emb.detach()[finite].double()
    if normalize:
        x = _normalized(x)
    k = min(k, max(0, len(x) - 1))
    distances = torch.full((len(emb), k), torch.nan, dtype=torch.float64, device=emb.device)
    indices = torch.full((len(emb), k), -1, dtype=torch.int64, device=emb.device)
    if k:
        square = x.square().sum(1)
        step = max(1, _BLOCK // len(x))
        for start in range(0, len(x), step):
            rows = torch.arange(start, min(start + step, len(x)), device=x.device)
            nearest, which = _of_rows(x, square, rows, k)
            distances[finite[rows]] = nearest
            indices[finite[rows]] = finite[which]
    return distances, indices


def _normalized(x: Tensor) -> Tensor:
    # Scaled by the largest number first: the square of 1e-200 would be 0.
    scaled = x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / length.where(length > 0, 1.0)


def _of_rows(x: Tensor, square: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    approximate = square[rows, None] + square - 2.0 * (x[rows] @ x.T)
    approximate[torch.arange(len(rows), device=x.device), rows] = torch.inf
    others = len(x) - 1
    border, candidates = approximate.topk(min(k + _SPARE, others), largest=False)
    distances, indices = _exact(x, rows, candidates, k)
    if candidates.shape[1] == others:
        return distances, indices
    # At least twice the largest error of a sum of so many products.
    error = 4.0 * (x.shape[1] + 4) * torch.finfo(x.dtype).eps * (square[rows] + square.max())
    reach = distances[:, -1].square() + error
    for row in (border[:, -1] <= reach).nonzero()[:, 0].tolist():
        wider = (approximate[row] <= reach[row]).nonzero()[:, 0]
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
    nearest = distances.sort(dim=1, stable=True)
    return nearest.values[:, :k], candidates.gather(1, nearest.indices)[:, :k]
