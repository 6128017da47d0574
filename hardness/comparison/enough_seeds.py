"""How many seeds are enough: looks at a growing number of runs until their mean is reliable.

Runs of one configuration are added in fixed steps. After each step comes a *look*: an interval of
the reliability r_m of the mean over the m runs so far is compared with a target. The first look
whose lower end reaches the target is the last.

Guarantees. Several looks have more chances of an error than one, so the error is divided among all
planned looks (Bonferroni): each of L looks uses the two-sided interval at level 1 - 0.05/L. If each
interval keeps its level, all L hold together with probability 95 %, however the looks depend on
each other. So the interval of the last look is a 95 % interval, although the data chose that look.
A mean whose r_m is below the target passes with a probability of at most 2.5 %.

Limits:

1. The jackknife interval of ``spearman_pair_mean`` is approximate. In simulations with equally good
   seeds it was on the safe side. If seeds differ much, for example if the best hold four times as
   much signal as the worst, about 5 % of sweeps stop too early instead of 2.5 %. The tests of this
   file measure both.
2. No interval covers a kind of seed that has not occurred. If a share p of the seeds is useless,
   (1 - p)^m of all sweeps have none among the first m: 53 % for p = 0.1 and m = 6. Only a larger
   first look helps.
3. r_m holds for these samples and for seeds that do not fail. It comes from the Spearman-Brown
   formula, which is slightly above the measured correlation of two means.
4. Looks added after a plan ended below its target cost more error, 0.05/L each.
"""

import math
from dataclasses import dataclass

from hardness.comparison.estimate import Estimate
from hardness.comparison.observed_scores import FEWEST_RUNS, FEWEST_RUNS_FOR_INTERVAL
from hardness.comparison.reliability import reliability, seeds_needed
from hardness.comparison.stability import spearman_pair_mean
from hardness.shapes import PerRun, of_runs

ERROR = 0.05
FIRST_STEP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The result of one look at the runs so far.

    Args:
        number: Number of this look, from 1.
        of: Number of looks in the plan.
        due: Number of runs that this look waited for.
        runs: Number of these runs that have scores; the others failed.
        reliability: r_m of the mean over these runs, with its interval at level 1 - 0.05 / ``of``.
        forecast: Number of runs at which r_m would reach the target, with an interval from both
            ends of the reliability's interval.
        reached: Whether the lower end of the interval reaches the target.
        undefined: Whether the reliability does not exist and further runs cannot change that,
            because a run lacks scores or all samples tie in it.
    """

    number: int
    of: int
    due: int
    runs: int
    reliability: Estimate
    forecast: Estimate
    reached: bool
    undefined: bool

    @property
    def last(self) -> bool:
        """Whether no further runs follow."""
        return self.reached or self.undefined or self.number == self.of


def looks(fewest: int, most: int) -> tuple[int, ...]:
    """Number of runs at each look: from ``fewest`` in steps of 2, 4, 8 and so on up to ``most``.

    Doubling the steps keeps the number of looks small, so each look gets more of the error.

    Args:
        fewest: Number of runs at the first look, enough for an interval.
        most: Number of runs at the last look.

    Raises:
        ValueError: If ``fewest`` is too small for an interval or above ``most``.

    Example:
        >>> looks(6, 20), looks(6, 15), looks(8, 8)
        ((6, 8, 12, 20), (6, 8, 12, 15), (8,))
    """
    if not FEWEST_RUNS_FOR_INTERVAL <= fewest <= most:
        raise ValueError(
            f"expected at least {FEWEST_RUNS_FOR_INTERVAL} runs at the first look and no fewer at "
            f"the last; got {fewest} and {most}"
        )
    found, step = [fewest], FIRST_STEP
    while found[-1] < most:
        found.append(min(found[-1] + step, most))
        step *= 2
    return tuple(found)


def look_at(scores: PerRun, number: int, plan: tuple[int, ...], target: float) -> Look:
    """Judge the mean over the runs so far; the guarantees are at the top of this file.

    Args:
        scores: Hardness by one metric, one row per run that was due and did not fail.
        number: Number of this look, from 1.
        plan: Number of runs due at each look, from ``looks``.
        target: Reliability to reach, above 0 and below 1.

    Returns:
        The look; with too few runs for an interval, the target is not reached.

    Raises:
        ValueError: If there are more runs than were due, or the plan has no such look.

    Example:
        Six runs without noise: all standard errors are 0.

        >>> import numpy as np
        >>> runs = np.tile(np.arange(10.0), (6, 1))
        >>> found = look_at(runs, 1, looks(6, 50), 0.9)
        >>> found.reliability.low, found.reached, found.last
        (1.0, True, True)

    References:
        Dunn, Multiple comparisons among means, 1961, for dividing the error.
        Armitage, McPherson and Rowe, Repeated significance tests on accumulating data, 1969, for
        the need to divide it.
    """
    scores = of_runs("scores", scores)
    if not 1 <= number <= len(plan):
        raise ValueError(f"number: expected a look from 1 to {len(plan)}; got {number}")
    if len(scores) > plan[number - 1]:
        raise ValueError(f"expected at most {plan[number - 1]} runs; got {len(scores)}")
    r_1 = spearman_pair_mean(scores, confidence=1 - ERROR / len(plan))
    found = reliability(r_1, max(len(scores), 1))
    return Look(
        number=number,
        of=len(plan),
        due=plan[number - 1],
        runs=len(scores),
        reliability=found,
        forecast=seeds_needed(r_1, target),
        reached=found.low >= target,
        undefined=len(scores) >= FEWEST_RUNS and math.isnan(found.value),
    )
