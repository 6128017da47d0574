"""Mean and spread over the seen entries of a history, one row per epoch."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped

# The variant ``key.mean`` of metrics that call `last_or_mean`.
MEAN = {"mean": {"over": "all"}}
# How far rounding in half precision may move a probability out of 0 to 1.
_ROUNDING = 1e-3


def seen_entries(values: np.ndarray, seen: np.ndarray | None) -> Bool[np.ndarray, "epochs samples"]:
    """``seen`` itself, or all True if it is None.

    Args:
        values: History ``[epochs, samples, ...]``.
        seen: Flags ``[epochs, samples]``, or None.

    Raises:
        ValueError: If there is no epoch or the shapes disagree.
    """
    if not len(values):
        raise ValueError(f"expected a history of one epoch or more; got shape {values.shape}")
    if seen is None:
        return np.ones(values.shape[:2], dtype=bool)
    if seen.shape != values.shape[:2]:
        raise ValueError(f"expected seen of shape {values.shape[:2]}; got {seen.shape}")
    return seen


def answers(
    correct: np.ndarray, seen: np.ndarray | None = None
) -> tuple[Bool[np.ndarray, "epochs samples"], Bool[np.ndarray, "epochs samples"]]:
    """``correct`` as booleans, which published codes store as numbers, and ``seen_entries``.

    Raises:
        ValueError: If ``seen_entries`` raises it, or if a seen entry is neither 0 nor 1.

    Example:
        >>> answers(np.array([[1.0, 0.0]]))[0].tolist()
        [[True, False]]
    """
    seen = seen_entries(correct, seen)
    if correct.dtype == np.bool_:
        return correct, seen
    right = correct == 1
    # Entries that were not seen may be anything, even NaN.
    strange = correct[seen & ~right & (correct != 0)]
    if len(strange):
        raise ValueError(f"expected correct of 0 and 1; got {strange[0]}")
    return right, seen


def refuse_percent(values: np.ndarray, seen: np.ndarray | Literal[True] = True) -> None:
    """Refuse numbers that are not probabilities, such as percent.

    Args:
        values: Numbers in 0 to 1, or NaN.
        seen: Mask of the values to check; all, if left out.

    Raises:
        ValueError: If a checked value is below 0 or above 1 by more than rounding.
    """
    strange = values[seen & ((values < -_ROUNDING) | (values > 1 + _ROUNDING))]
    if len(strange):
        raise ValueError(f"expected probabilities in 0 to 1, not percent; got {strange[0]}")


def mean_seen(
    values: Shaped[np.ndarray, "epochs samples"], seen: Bool[np.ndarray, "epochs samples"]
) -> Float64[np.ndarray, " samples"]:
    """Mean over the seen entries; NaN if there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if seen.all():  # the same, twice as fast
            return np.asarray(np.sum(values, axis=0, dtype=np.float64) / len(values))
        return np.sum(values, axis=0, dtype=np.float64, where=seen) / seen.sum(axis=0)


def last_or_mean(
    values: Float[np.ndarray, "epochs samples"],
    seen: Bool[np.ndarray, "epochs samples"] | None,
    over: Literal["last", "all"],
) -> Float64[np.ndarray, " samples"]:
    """The last epoch's value, or the mean over the seen entries; NaN if there is none."""
    seen = seen_entries(values, seen)
    first = 0 if over == "all" else len(values) - 1
    return mean_seen(values[first:], seen[first:])


def std_seen(
    values: Shaped[np.ndarray, "epochs samples"], seen: Bool[np.ndarray, "epochs samples"]
) -> Float64[np.ndarray, " samples"]:
    """Population standard deviation over the seen entries, in two passes; NaN below two entries."""
    with np.errstate(invalid="ignore"):
        square = (values - mean_seen(values, seen)) ** 2
    # One entry has no spread; the formula would give a false 0.
    return np.where(seen.sum(axis=0) > 1, np.sqrt(mean_seen(square, seen)), np.nan)


def last_seen(
    seen: Bool[np.ndarray, "epochs samples"],
) -> Int[np.ndarray, " samples"]:
    """Epoch of the last seen entry; -1 if there is none."""
    epochs = len(seen)
    return np.where(seen.any(axis=0), epochs - 1 - np.argmax(seen[::-1], axis=0), -1)
