"""A ranking from supervised training, with which all other rankings are compared."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from hardness.comparison.correlation import Vector
from hardness.comparison.ranks import centred_ranks
from hardness.shapes import PerRun, of_runs
from hardness.threads import in_threads

REFERENCE_CLUSTERS = (
    ("mean_loss", "aum", "cartography_confidence"),
    ("forgetting_events", "fslt"),
)


def supervised_reference(
    scores: Mapping[str, PerRun], without: str | None = None
) -> Float[np.ndarray, "runs samples"]:
    """Reference ranking from supervised training, to compare label-free metrics with.

    Each metric's ranks in a run become ``(rank - 0.5) / N``. They are averaged inside each of
    ``REFERENCE_CLUSTERS``, then over the clusters. Clusters have equal weight, since the metrics of
    one cluster measure nearly the same.

    Args:
        scores: Hardness by metric key, runs and samples aligned; further keys are ignored.
        without: Key of a member to compare with the reference; its whole cluster is left out.

    Returns:
        Between 0 and 1, higher is harder; NaN where a member in use is NaN in that run.

    Raises:
        ValueError: If ``without`` is not a member, a needed member is missing, or shapes differ.

    Example:
        >>> runs = {"forgetting_events": np.array([[0.0, 2.0]]), "fslt": np.array([[3.0, 3.0]])}
        >>> supervised_reference(runs, without="aum")
        array([[0.375, 0.625]])
    """
    members = [member for cluster in REFERENCE_CLUSTERS for member in cluster]
    if without is not None and without not in members:
        raise ValueError(f"without: expected one of {', '.join(members)}; got {without!r}")
    clusters = [cluster for cluster in REFERENCE_CLUSTERS if without not in cluster]
    needed = [member for cluster in clusters for member in cluster]
    missing = [member for member in needed if member not in scores]
    if missing:
        raise ValueError(
            f"scores: expected {', '.join(missing)} for the reference; got {list(scores)}"
        )
    members_scores = {member: of_runs(member, scores[member]) for member in needed}
    shapes = {member: rows.shape for member, rows in members_scores.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"scores: expected one shape for all members; got {shapes}")
    runs = np.stack([*members_scores.values()], axis=1)
    weights = np.concatenate([np.full(len(c), 1 / len(c) / len(clusters)) for c in clusters])
    return np.stack(in_threads(lambda run: _mean_normalised_rank(run, weights), runs))


def _mean_normalised_rank(
    members: Float[np.ndarray, "members samples"], weights: Float[np.ndarray, " members"]
) -> Vector:
    kept = ~np.isnan(members).any(axis=0)
    count = np.count_nonzero(kept)
    mean = np.full(len(kept), np.nan)
    # The centre of the ranks is (N + 1) / 2, so (rank - 0.5) / N is the centred rank / N + 0.5.
    mean[kept] = 0.5 + weights @ centred_ranks(members[:, kept]) / max(count, 1)
    return mean
