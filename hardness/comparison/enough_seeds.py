"""How many seeds are enough: looks at a growing number of runs until their mean is reliable.

Runs of one configuration are added in steps that are fixed beforehand. After each step, at a
*look*, an interval of the reliability r_m of the mean over the m runs so far is held against a
target; the first look whose lower end passes it is the last.

What is guaranteed. Looking repeatedly and stopping at the first success would exceed the error of
a single look, so that error is split over all looks that may be made (Bonferroni): each of L looks
takes the two-sided interval at level 1 - 0.05/L. Where each of these holds what it says, so do all
L together with probability 95 %, however the looks depend on each other. So the interval of the
look that happened to be the last is a 95 % interval although the data chose it, and a mean whose
r_m is below the target passes for reliable with a probability of at most 2.5 %.

What is not:

1. The interval of a look is the jackknife's of ``spearman_pair_mean``, which is approximate. Where
   all seeds are equally good it errs on the safe side, in all that was simulated. Where they differ
   much, as when the best hold four times as much signal as the worst, about 5 % of sweeps stop too
   early instead of 2.5 %; the tests of this file measure both.
2. No interval sees a kind of seed that has not occurred. Where a share p of the seeds is useless,
   (1 - p)^m of all sweeps meet none among the first m, 53 % for p = 0.1 and m = 6, and stop by
   what they met. Only a larger first look helps.
3. r_m is about these samples and about seeds that do not fail. It is Spearman and Brown's, which
   lies slightly above the measured correlation of two means.
4. Looks added to a plan that was seen to end below its target spend error anew, 0.05/L each.
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
    """What one look at the runs so far says.

    Args:
        number: Of this look, from 1.
        of: Looks in the plan.
        due: Runs that this look waited for.
        runs: Those of them that have scores; the others failed and are not counted.
        reliability: r_m of the mean over these runs, its interval at level 1 - 0.05 / ``of``.
        forecast: Runs at which r_m would reach the target, of the point estimate and, as its
            interval, of both ends of the interval.
        reached: Whether the lower end of the interval passes the target.
        undefined: Whether there is no reliability and further runs cannot give one: what a run
            lacks, or that all samples tie in it, stays as it is.
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
    """Runs at each look: the fewest, then steps of 2, 4, 8 and so on, and at last the most.

    Steps that double keep the looks, among which the error is split, few.

    Args:
        fewest: Runs at the first look, enough for an interval.
        most: Runs at the last one.

    Raises:
        ValueError: If there are too few for an interval, or the most are fewer than the fewest.

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
    """Judge the mean over the runs so far: see the top of this file for what that guarantees.

    Args:
        scores: Hardness by one metric, one row per run that was due and did not fail.
        number: Of this look, from 1.
        plan: Runs due at each look, as from ``looks``.
        target: The reliability to reach, above 0 and below 1.

    Returns:
        The look; not reached where there are too few runs for an interval.

    Raises:
        ValueError: If there are more runs than were due, or no such look in the plan.

    Example:
        Six runs without noise. As five other looks may follow, t(5) = 4.22 would be the reach of
        the interval in standard errors, if these were not 0.

        >>> import numpy as np
        >>> runs = np.tile(np.arange(10.0), (6, 1))
        >>> found = look_at(runs, 1, looks(6, 50), 0.9)
        >>> found.reliability.low, found.reached, found.last
        (1.0, True, True)

    References:
        Dunn, Multiple comparisons among means, 1961: the error split over comparisons.
        Armitage, McPherson and Rowe, Repeated significance tests on accumulating data, 1969: why
        it has to be.
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
