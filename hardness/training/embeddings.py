"""Per-epoch signals of the encoder's output, with one previous epoch held on the device."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hardness import signals
from hardness.neighbors import neighbors

NEIGHBORS = 20


class EmbeddingTracker:
    """Turns each epoch's embeddings into ``feature_norm`` and ``msd``.

    ``msd`` is undefined (NaN) until there is an earlier epoch; the embedding before training is
    not one.
    """

    def __init__(self) -> None:
        self.previous: Tensor | None = None

    def update(self, emb: Float[Tensor, "samples width"]) -> dict[str, np.ndarray]:
        """Signals of this epoch, float32; keeps ``emb`` for the next."""
        if self.previous is None:
            msd = torch.full((len(emb),), torch.nan)
        elif not self.previous.any():
            # A dead encoder, not the unwritten buffer that `signals.msd` refuses.
            msd = signals.feature_norm(emb)
        else:
            msd = signals.msd(emb, self.previous)
        self.previous = emb
        return {
            "feature_norm": signals.feature_norm(emb).float().cpu().numpy(),
            "msd": msd.float().cpu().numpy(),
        }


def snapshots(wanted: tuple[str, ...], available: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Arrays to keep of the last epoch, float32.

    Args:
        wanted: Out of ``emb``, ``logits`` and ``neighbor_distances``.
        available: What the regimen has; a name that it lacks is left out.
    """
    kept = {name: available[name] for name in wanted if name in available}
    if "neighbor_distances" in wanted:
        kept["neighbor_distances"], _ = neighbors(available["emb"], NEIGHBORS, normalize=True)
    return {name: tensor.float().cpu().numpy() for name, tensor in kept.items()}
