"""A number with its interval, or the reason why it is missing."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval, or the reason why either is missing.

    Args:
        value: Point estimate; NaN if it is undefined.
        low: Lower end of the interval, at 95 % unless stated otherwise; NaN if there is none.
        high: Upper end of the same interval; NaN if there is none.
        reason: Why the value or its interval is missing, or how much was left out.

    Example:
        >>> Estimate(value=0.8, reason="no interval: 2 runs")
        Estimate(value=0.8, low=nan, high=nan, reason='no interval: 2 runs')
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""


def counted(estimate: Estimate, dropped: int) -> Estimate:
    """The estimate, with the number of ids left out for missing scores added to its reason."""
    if not dropped:
        return estimate
    note = f"{dropped} ids left out for NaN"
    return replace(estimate, reason="; ".join(filter(None, (estimate.reason, note))))
