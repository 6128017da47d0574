"""Steps that the metrics of an embedding share."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64


def last_epoch(emb: Float[np.ndarray, "..."]) -> Float[np.ndarray, "samples width"]:
    """Embeddings of the last epoch, or the array itself if it holds only one epoch."""
    return emb[-1] if emb.ndim == 3 else emb  # noqa: PLR2004 - epochs, samples, width


def finite_rows(
    emb: Float[np.ndarray, "..."], *, normalize: bool
) -> tuple[Float64[np.ndarray, "finite width"], Bool[np.ndarray, " samples"]]:
    """The finite rows of the last epoch, and the mask of their samples.

    Args:
        emb: Embeddings; the last epoch is used if there are several.
        normalize: Whether to scale every row to length 1.
    """
    last = last_epoch(emb)
    finite = np.isfinite(last).all(axis=1)
    x = last[finite].astype(np.float64)
    return unit_length(x) if normalize else x, finite


def nearest_others(
    emb: Float[np.ndarray, "..."], k: int, *, normalize: bool
) -> tuple[Float64[np.ndarray, "samples k"], Int64[np.ndarray, "samples k"]]:
    """Distances and rows of the k nearest other samples in the last epoch; see ``neighbors``.

    Raises:
        ValueError: If k is below 1.
    """
    # Imported here: torch is large, and scoring recorded histories does not need it.
    from hardness.signals.blocks import as_tensor  # noqa: PLC0415
    from hardness.signals.neighbors import neighbors  # noqa: PLC0415

    distances, rows = neighbors(as_tensor(last_epoch(emb)), k, normalize=normalize)
    return distances.numpy(), rows.numpy()


def unit_length(x: Float[np.ndarray, "samples width"]) -> Float64[np.ndarray, "samples width"]:
    """Rows scaled to length 1; a row of zeros stays."""
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1.0)
