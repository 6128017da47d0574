"""Signals of the encoder's output that compare an epoch with the one before."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardness.signals import embeddings as embedding_signals
from hardness.signals.neighbors import NEIGHBORS, neighbors


class EmbeddingTracker:
    """Turns each epoch's embeddings into ``feature_norm``, ``msd`` and ``msd_cosine``.

    ``msd`` and ``msd_cosine`` are NaN in the first epoch. The embedding before training does not
    count as an epoch. The previous epoch's embeddings stay on the device.
    """

    def __init__(self) -> None:
        self.previous: Tensor | None = None

    def update(self, emb: Float[Tensor, "samples width"]) -> dict[str, np.ndarray]:
        """Signals of this epoch in float32; keeps ``emb`` to compare the next epoch with."""
        norm = embedding_signals.feature_norm_from_embeddings(emb)
        if self.previous is None:
            msd = cosine = torch.full((len(emb),), torch.nan)
        elif not self.previous.any():
            # The encoder is dead. `msd_from_embeddings` would take this for an unwritten buffer.
            msd, cosine = norm, (norm > 0).double()
        else:
            msd = embedding_signals.msd_from_embeddings(emb, self.previous)
            cosine = embedding_signals.msd_cosine_from_embeddings(emb, self.previous)
        self.previous = emb
        found = {"feature_norm": norm, "msd": msd, "msd_cosine": cosine}
        return {name: values.float().cpu().numpy() for name, values in found.items()}


def snapshots(wanted: tuple[str, ...], available: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Arrays to keep from the last epoch, in float32; ``neighbor_rows`` in int32.

    Args:
        wanted: Names among ``emb``, ``logits``, ``neighbor_distances`` and ``neighbor_rows``.
        available: Tensors by name; a wanted name that is missing here is skipped.
    """
    kept = {name: available[name].float() for name in wanted if name in available}
    graph = {"neighbor_distances", "neighbor_rows"}.intersection(wanted)
    if graph:
        distances, rows = neighbors(available["emb"], NEIGHBORS, normalize=True)
        found = {"neighbor_distances": distances.float(), "neighbor_rows": rows.int()}
        kept |= {name: found[name] for name in sorted(graph)}
    return {name: tensor.cpu().numpy() for name, tensor in kept.items()}
