"""Shares of sample, configuration and seed in the variance of a metric's scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hardness.comparison.ranks import FEWEST_SAMPLES, centred_ranks
from hardness.shapes import PerRun, of_runs

FEWEST_CONFIGURATIONS = 2
FEWEST_RUNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceComponents:
    """Variances of a sample's normalised rank, and their shares.

    Args:
        sample: Share of the sample, common to all configurations and seeds.
        sample_by_configuration: Share of differences between configurations about the sample.
        seed: Share of differences between seeds of one configuration.
        variances: The three variances in that order, before division by their sum.
        configurations: Number of configurations compared.
        runs: Number of runs of each configuration.
        samples: Number of samples with a score in every run.
        dropped: Number of samples left out because some run has no score for them.
        reason: Why nothing could be estimated, or what was left out.
    """

    sample: float = math.nan
    sample_by_configuration: float = math.nan
    seed: float = math.nan
    variances: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    configurations: int = 0
    runs: int = 0
    samples: int = 0
    dropped: int = 0
    reason: str = ""


def variance_components(
    scores: Sequence[PerRun],
) -> VarianceComponents:
    """Shares of sample, sample by configuration, and seed, in the variance of normalised ranks.

    Each run becomes ``(rank - 0.5) / N`` minus its mean. With K seeds nested in each of C
    configurations, ``seed = MS_e``, ``sample_by_configuration = (MS_nc - MS_e) / K`` and
    ``sample = (MS_n - MS_nc) / (C K)``, on (n-1)C(K-1), (n-1)(C-1) and n-1 degrees of freedom.
    Negative estimates count as 0. The design must be balanced: of each configuration only as many
    first runs are used as the smallest one has.

    Args:
        scores: Hardness of each configuration, one row per run, samples aligned.

    Returns:
        The shares, which sum to 1; NaN with the reason if there are fewer than two configurations,
        runs of each, or samples, or if a run ties on all samples.

    Raises:
        ValueError: If the configurations differ in samples.

    Example:
        >>> found = variance_components(
        ...     [np.array([[1.0, 2, 3], [1, 3, 2]]), np.array([[1.0, 2, 3], [2, 1, 3]])]
        ... )  # times n^2: MS_n 2.25, MS_nc 0.75 and MS_e 0.5
        >>> [round(s, 3) for s in (found.sample, found.sample_by_configuration, found.seed)]
        [0.375, 0.125, 0.5]

    References:
        Searle, Casella and McCulloch, Variance Components, 1992, for balanced nested designs.
    """
    scores = [of_runs("scores", rows) for rows in scores]
    if len({rows.shape[1] for rows in scores}) > 1:
        raise ValueError(
            f"expected the same samples in every configuration; got {[r.shape[1] for r in scores]}"
        )
    runs = min((len(rows) for rows in scores), default=0)
    if len(scores) < FEWEST_CONFIGURATIONS or runs < FEWEST_RUNS:
        return VarianceComponents(
            configurations=len(scores),
            runs=runs,
            reason=f"needs {FEWEST_CONFIGURATIONS} configurations with {FEWEST_RUNS} runs each; "
            f"got {len(scores)} with {runs}",
        )
    # [configurations, runs, samples]
    every = np.stack([rows[:runs] for rows in scores])
    kept = ~np.isnan(every).any(axis=(0, 1))
    every = every[..., kept]
    samples, extra = every.shape[2], sum(map(len, scores)) - len(scores) * runs
    design = {
        "configurations": len(scores),
        "runs": runs,
        "samples": samples,
        "dropped": int(np.count_nonzero(~kept)),
    }
    if samples < FEWEST_SAMPLES:
        reason = f"needs {FEWEST_SAMPLES} samples with a score in every run, got {samples}"
        return VarianceComponents(**design, reason=reason)
    constant = (every == every[..., :1]).all(axis=2)
    if constant.any():
        places = ", ".join(f"run {run} of {which}" for which, run in np.argwhere(constant).tolist())
        return VarianceComponents(**design, reason=f"all samples tie in {places}")
    sample, mixed, seed = variances = _variances(centred_ranks(every) / samples)
    total = sum(variances)
    return VarianceComponents(
        sample=sample / total,
        sample_by_configuration=mixed / total,
        seed=seed / total,
        variances=variances,
        **design,
        reason=f"{extra} runs left out for balance" if extra else "",
    )


def _variances(
    ranks: Float[np.ndarray, "configurations runs samples"],
) -> tuple[float, float, float]:
    """Variances of sample, sample by configuration, and seed; negative estimates become 0.

    Every run's mean is 0, so there are no main effects of configuration and seed.
    """
    configurations, runs, samples = ranks.shape
    means = ranks.mean(axis=1)
    of_samples = means.mean(axis=0)
    free = samples - 1
    ms_n = configurations * runs * float((of_samples**2).sum()) / free
    ms_nc = runs * float(((means - of_samples) ** 2).sum()) / (free * (configurations - 1))
    ms_e = float(((ranks - means[:, None]) ** 2).sum()) / (free * configurations * (runs - 1))
    return (
        max((ms_n - ms_nc) / (configurations * runs), 0.0),
        max((ms_nc - ms_e) / runs, 0.0),
        max(ms_e, 0.0),
    )
