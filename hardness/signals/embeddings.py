"""Signals of one epoch from embeddings and reconstructions."""

from typing import Any

import torch
from jaxtyping import Float

from hardness.signals.blocks import Array, as_matrix, in_kind, row_blocks, shape_of, to_tensor


def feature_norm_from_embeddings(emb: Float[Array, "samples width"]) -> Float[Array, " samples"]:
    """Mean square of the embedding over its dimensions.

    Raises:
        ValueError: If the array is not a matrix.
    """
    z = as_matrix(emb, "emb")
    out = torch.empty(len(z), dtype=torch.float64, device=z.device)
    for rows in row_blocks(z):
        out[rows] = z[rows].double().square().mean(1)
    return in_kind(out, emb)


def msd_from_embeddings(
    emb: Float[Array, "samples width"], previous: Float[Array, "samples width"]
) -> Float[Array, " samples"]:
    """Mean squared displacement of the embedding since the previous epoch.

    Args:
        emb: Embeddings in this epoch.
        previous: Embeddings in the epoch before, same samples in the same order.

    Raises:
        ValueError: If the arrays are not matrices of one shape. Also if only ``previous`` is all
            zeros: the published code kept such a buffer, so its displacement was the mean square
            of the current embedding.
    """
    new, old = _two_epochs(emb, previous)
    out = torch.empty(len(new), dtype=torch.float64, device=new.device)
    for rows in row_blocks(new):
        out[rows] = (new[rows].double() - old[rows].to(new.device).double()).square().mean(1)
    return in_kind(out, emb)


def reconstruction_error_from_images(
    reconstruction: Float[Array, "samples *pixels"], images: Float[Array, "samples *pixels"]
) -> Float[Array, " samples"]:
    """Mean squared difference over pixels and channels, in the images' units squared.

    Raises:
        ValueError: If the shapes differ.
    """
    x, again = to_tensor(images).flatten(1), to_tensor(reconstruction).flatten(1)
    if x.shape != again.shape:
        raise ValueError(
            f"expected a reconstruction of the images' shape {shape_of(to_tensor(images))}; "
            f"got {shape_of(to_tensor(reconstruction))}"
        )
    out = torch.empty(len(x), dtype=torch.float64, device=x.device)
    for rows in row_blocks(x):
        out[rows] = (again[rows].double() - x[rows].double()).square().mean(1)
    return in_kind(out, images)


def msd_cosine_from_embeddings(
    emb: Float[Array, "samples width"], previous: Float[Array, "samples width"]
) -> Float[Array, " samples"]:
    """Cosine distance ``1 - cos`` between the embeddings of two epochs, from 0 to 2.

    Computed as half the squared distance of the embeddings scaled to length 1, which keeps the
    digits of a small angle. A zero embedding has no direction. Its distance is 0 to another zero
    embedding and 1, a right angle, to all others.

    Args:
        emb: Embeddings in this epoch.
        previous: Embeddings in the epoch before, same samples in the same order.

    Raises:
        ValueError: In the cases of ``msd_from_embeddings``.
    """
    new, old = _two_epochs(emb, previous)
    out = torch.empty(len(new), dtype=torch.float64, device=new.device)
    for rows in row_blocks(new):
        (u, a), (v, b) = (_direction(x[rows].to(new.device).double()) for x in (new, old))
        turned = (u - v).square_().sum(1) / 2
        out[rows] = torch.where((a == 0) | (b == 0), ((a == 0) != (b == 0)).double(), turned)
    return in_kind(out, emb)


def _direction(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows scaled to length 1, and their lengths before; rows of zeros stay as they are."""
    length = torch.linalg.vector_norm(x, dim=1)
    return x / length.where(length > 0, 1.0)[:, None], length


def _two_epochs(emb: Any, previous: Any) -> tuple[torch.Tensor, torch.Tensor]:
    new, old = as_matrix(emb, "emb"), as_matrix(previous, "previous")
    if new.shape != old.shape:
        raise ValueError(
            f"expected embeddings of one shape; got {shape_of(new)} and {shape_of(old)}"
        )
    if new.any() and not old.any():
        raise ValueError(
            "expected the previous epoch's embeddings; got all zeros, as from a buffer that was "
            "never written"
        )
    return new, old
