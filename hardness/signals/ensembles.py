"""Signals from several predictions for each sample."""

import math
from typing import Any

import torch
from jaxtyping import Float

from hardness.signals.blocks import Array, in_kind, row_slices, shape_of, to_tensor


def mixture_entropy(
    log_probs: Float[Array, "members samples classes"],
) -> Float[Array, " samples"]:
    """Total uncertainty: entropy of the mean of several predicted distributions, in nats.

    Args:
        log_probs: Log-probabilities from the members of an ensemble or from draws of dropout.

    Raises:
        ValueError: If there is no member.
    """
    return in_kind(_of_members(log_probs)[0], log_probs)


def mutual_information(
    log_probs: Float[Array, "members samples classes"],
) -> Float[Array, " samples"]:
    """Disagreement of members: entropy of the mean distribution minus mean entropy, in nats.

    Rounding errors just below 0 become 0.

    Args:
        log_probs: Log-probabilities from the members of an ensemble or from draws of dropout.

    Raises:
        ValueError: If there is no member.

    References:
        Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", 2011.
        Agrees with OATML/RHO-Loss, utils_bald.py.
    """
    of_mean, mean_of = _of_members(log_probs)
    return in_kind(_not_below_zero(of_mean - mean_of), log_probs)


def _of_members(log_probs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of the members' mean, and the mean of their entropies."""
    members = to_tensor(log_probs)
    if members.ndim != 3 or not len(members):  # noqa: PLR2004 - members, samples, classes
        raise ValueError(
            "expected log_probs [members, samples, classes] with at least one member; got shape "
            f"{shape_of(members)}"
        )
    of_mean = torch.empty(members.shape[1], dtype=torch.float64, device=members.device)
    mean_of = torch.empty_like(of_mean)
    for rows in row_slices(len(of_mean), members.shape[0] * members.shape[2], members.device):
        block = members[:, rows].double()
        mean = torch.logsumexp(block, 0) - math.log(len(members))
        of_mean[rows], mean_of[rows] = _surprise(mean), _surprise(block).mean(0)
    return of_mean, mean_of


def _surprise(log_probs: torch.Tensor) -> torch.Tensor:
    """``-sum p ln p`` over the last dimension; the clamp keeps ``0 ln 0`` from becoming NaN."""
    return -(log_probs.exp() * log_probs.clamp(min=-1000.0)).sum(-1)


def _not_below_zero(values: torch.Tensor) -> torch.Tensor:
    rounding = -1e-9
    return torch.where((values < 0) & (values > rounding), 0.0, values)
