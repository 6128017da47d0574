"""A number that says how sure it is, or why it is missing."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval, or the reason why it or its interval is missing.

    Args:
        value: The point estimate; NaN if it is undefined.
        low: Lower end of the interval, 95 % unless another is said; NaN if there is none.
        high: Upper end of the same interval; NaN if there is none.
        reason: Why the value or its interval is missing, or what was left out of it.

    Example:
        >>> Estimate(value=0.8, reason="no interval: 2 runs")
        Estimate(value=0.8, low=nan, high=nan, reason='no interval: 2 runs')
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


def counted(estimate: Estimate, dropped: int) -> Estimate:
    """The estimate, its reason extended by how many ids were left out for a missing score."""
    if not dropped:
        return estimate
    note = f"{dropped} ids left out for NaN"
    return replace(estimate, reason="; ".join(filter(None, (estimate.reason, note))))
