"""Scores of the samples that every run has scored, and why their statistics are undefined."""

import math

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import stdtrit

from hardness.comparison.estimate import Estimate
from hardness.comparison.ranks import FEWEST_SAMPLES, class_codes
from hardness.shapes import PerRun, PerSample, check_axes, of_runs

FEWEST_RUNS = 2
FEWEST_RUNS_FOR_INTERVAL = 4
Scores = Float[np.ndarray, "runs samples"]


def seen_by_all(scores: PerRun) -> tuple[Float[np.ndarray, "runs kept"], int]:
    """Scores of the samples without a NaN in any run, and the number of samples dropped."""
    scores = of_runs("scores", scores)
    kept = ~np.isnan(scores).any(axis=0)
    dropped = int(np.count_nonzero(~kept))
    # Indexing would store each sample's runs together, but later code reads run by run.
    return np.compress(kept, scores, axis=1) if dropped else scores, dropped


def seen_by_all_with_classes(
    scores: PerRun, labels: PerSample
) -> tuple[Float[np.ndarray, "runs kept"], Integer[np.ndarray, " kept"], int]:
    """As ``seen_by_all``, with the class codes of the samples kept in second place."""
    scores = of_runs("scores", scores)
    check_axes("labels", labels, ("samples",), scores.shape[1])
    observed, dropped = seen_by_all(scores)
    of_these = labels[~np.isnan(scores).any(axis=0)] if dropped else labels
    return observed, class_codes(of_these), dropped


def why_undefined(scores: Scores) -> str:
    """Why no statistic of these scores or ranks exists; empty if all exist."""
    runs, samples = scores.shape
    if runs < FEWEST_RUNS:
        return f"needs {FEWEST_RUNS} runs, got {runs}"
    if samples < FEWEST_SAMPLES:
        return f"needs {FEWEST_SAMPLES} samples with a score in every run, got {samples}"
    constant = np.flatnonzero((scores == scores[:, :1]).all(axis=1))
    if constant.size:
        return f"all samples tie in row {', '.join(map(str, constant))}"
    return ""


def jackknife(
    value: float, left_out: Float[np.ndarray, " runs"], confidence: float = 0.95
) -> Estimate:
    """Add an interval to a value, from the values with each run left out in turn."""
    runs = len(left_out)
    if runs < FEWEST_RUNS_FOR_INTERVAL:
        reason = f"no interval: needs {FEWEST_RUNS_FOR_INTERVAL} runs, got {runs}"
        return Estimate(value=value, reason=reason)
    error = math.sqrt((runs - 1) / runs * float(np.sum((left_out - left_out.mean()) ** 2)))
    # Student's quantile without scipy.stats, which is slow to import in every worker.
    reach = float(stdtrit(runs - 1, (1 + confidence) / 2)) * error
    return Estimate(value=value, low=value - reach, high=value + reach)
