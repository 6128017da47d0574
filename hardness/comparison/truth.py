"""Metrics against the truth: do planted samples, or samples that people doubt, score hard?

Scores are hardness: their sign is applied, and higher is harder. A truth is a number per sample;
higher is harder, and NaN is unknown. A truth of only 0 and 1 is binary: its positives are the hard
class, and ranking measures judge it. Any other truth is graded and judged by rank correlation. Ids
that are NaN on either side are dropped and counted.

Every statistic is a function of weights on the samples. Weights of 1 give its value, weights of
resamples its interval. With many samples, its derivatives by the weights give a standard error.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from hardness.comparison.estimate import Estimate, counted
from hardness.comparison.mean_scores import mean_over_runs
from hardness.comparison.resampling import (
    MOST_SAMPLES_TO_RESAMPLE,
    NORMAL_REACH,
    Strata,
    percentile_ends,
    resamples,
    simultaneous_reach,
)
from hardness.comparison.truth_statistics import (
    BINARY,
    GRADED,
    AgainstBinary,
    AgainstGraded,
    Drawn,
    Labels,
    Vector,
    comparison,
    is_binary,
)
from hardness.shapes import PerRun, PerSample, check_axes, of_runs, of_samples
from hardness.threads import in_threads, one_blas_thread

CLASS_MEAN = "class mean"
Weights = Float[np.ndarray, "draws samples"]
Comparison = AgainstBinary | AgainstGraded
Control = tuple[str, PerSample] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePrecision:
    """Average precision with its chance level.

    Args:
        precision: Average precision with its interval.
        base_rate: Share of positives, which is the average precision of a random order.
        lift: Average precision divided by the base rate; 1 is chance.
    """

    precision: Estimate
    base_rate: float
    lift: float


def auroc(hardness: PerSample, truth: PerSample, *, draws: int = 0, seed: int = 0) -> Estimate:
    """Area under the ROC curve: the probability that a positive scores harder than a negative.

    The statistic of Mann and Whitney, divided by the number of pairs; a tie counts half. Values
    below 0.5 are not turned round, so that a wrong sign is visible.

    Args:
        hardness: Hardness by one metric.
        truth: 1 for positives, 0 for negatives, NaN where unknown.
        draws: Number of resamples for the interval (2.5 and 97.5 percentiles), with positives and
            negatives drawn separately; 0 for none. Above 20,000 ids the interval comes from
            influence-function standard errors.
        seed: Seed of the resamples.

    Returns:
        From 0 to 1; 0.5 for a random order; NaN with the reason without positives or negatives.

    Raises:
        ValueError: If the truth is not binary.

    Example:
        >>> auroc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0])).value
        0.875

    References:
        Mann and Whitney, On a test of whether one of two random variables is stochastically larger
        than the other, 1947; agrees with scikit-learn's ``roc_auc_score``. H-CAT's analysis
        replaces values below 0.5 by their complement, which hides wrong signs.
    """
    return _estimates(hardness, truth, None, draws, seed)["auroc"]


def auroc_within_class(
    hardness: PerSample, truth: PerSample, labels: PerSample, *, draws: int = 0, seed: int = 0
) -> Estimate:
    """``auroc`` inside each given class, averaged by class size.

    If positives are more frequent in one class than in others, a metric that depends only on the
    class can have a pooled AUROC above 0.5; here it has exactly 0.5. A class without positives or
    without negatives is left out.

    Args:
        hardness: Hardness by one metric.
        truth: 1 for positives, 0 for negatives, NaN where unknown.
        labels: Given class per sample.
        draws: Number of resamples for the interval, as in ``auroc``.
        seed: Seed of the resamples.

    Returns:
        From 0 to 1; NaN with the reason if no class has positives and negatives.

    Raises:
        ValueError: If the truth is not binary, or lengths differ.

    Example:
        >>> hardness, truth = np.array([1.0, 1.0, 5.0, 5.0]), np.array([0.0, 0.0, 0.0, 1.0])
        >>> classes = np.array([0, 0, 1, 1])
        >>> print(f"{auroc(hardness, truth).value:.3f}")
        0.833
        >>> auroc_within_class(hardness, truth, classes).value
        0.5
    """
    return _estimates(hardness, truth, labels, draws, seed)["auroc_within_class"]


def average_precision(
    hardness: PerSample, truth: PerSample, *, draws: int = 0, seed: int = 0
) -> AveragePrecision:
    """Mean over positives of the precision at each positive's own threshold, hardest first.

    The step-wise sum ``sum_n (R_n - R_(n-1)) P_n`` without interpolation; tied samples share one
    threshold. Positives are the hard class. With the clean majority as positives, chance would be
    0.9 at a noise rate of 0.1.

    Args:
        hardness: Hardness by one metric.
        truth: 1 for positives, 0 for negatives, NaN where unknown.
        draws: Number of resamples for the interval, as in ``auroc``.
        seed: Seed of the resamples.

    Returns:
        The average from 0 to 1, the base rate and the lift; NaN with the reason without positives
        or without negatives.

    Raises:
        ValueError: If the truth is not binary.

    Example:
        >>> hardness, truth = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 0.0, 1.0, 0.0])
        >>> found = average_precision(hardness, truth)
        >>> print(f"{found.precision.value:.3f} {found.base_rate} {found.lift:.3f}")
        0.833 0.5 1.667

    References:
        Agrees with scikit-learn's ``average_precision_score``. Not comparable with H-CAT, whose
        positive class is the clean majority.
    """
    found = _estimates(hardness, truth, None, draws, seed)["average_precision"]
    known = truth[~(np.isnan(truth) | np.isnan(hardness))]
    rate = float(known.mean()) if len(known) else math.nan
    return AveragePrecision(
        precision=found, base_rate=rate, lift=found.value / rate if rate > 0 else math.nan
    )


def precision_at_pi(
    hardness: PerSample, truth: PerSample, *, draws: int = 0, seed: int = 0
) -> Estimate:
    """Share of positives in the top, whose size is the number of positives.

    It equals the recall there. Ties at the border belong to the top in part, as in
    ``stability.topk_jaccard``.

    Args:
        hardness: Hardness by one metric.
        truth: 1 for positives, 0 for negatives, NaN where unknown.
        draws: Number of resamples for the interval, as in ``auroc``.
        seed: Seed of the resamples.

    Returns:
        From 0 to 1; a random order reaches the base rate. NaN with the reason without positives or
        without negatives.

    Raises:
        ValueError: If the truth is not binary.

    Example:
        >>> precision_at_pi(np.array([3.0, 2.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])).value
        0.75
    """
    return _estimates(hardness, truth, None, draws, seed)["precision_at_pi"]


def truth_table(
    scores: Mapping[str, PerRun],
    truths: Mapping[str, PerSample],
    labels: PerSample,
    *,
    control: Control = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every metric's mean over runs with every truth.

    Intervals ``_low`` and ``_high`` resample ids. All metrics share the draws, and the positives
    and negatives of a binary truth are drawn separately. Above 20,000 ids, intervals come from
    influence-function standard errors. ``_least`` and ``_most`` are simultaneous: for one statistic
    they hold for all metrics and truths of this table together, by the maximum statistic of the
    same draws. All intervals ignore seed noise; ``_spread`` shows it as the standard deviation of
    the statistic over single runs.

    Args:
        scores: Hardness by metric, one row per run; one row for a metric without randomness.
        truths: Truths by name, one number per sample.
        labels: Given class per sample.
        control: Name and values of the score that ``partial_spearman`` holds fixed; the mean of the
            truth in each class, if left out.
        draws: Number of resamples; 0 for values alone.
        seed: Seed of the resamples.

    Returns:
        One row per (truth, metric): ``kind``, samples used and dropped, runs, the statistics of its
        kind (others NaN), base rate and lift for binary truths, the reason for missing values.

    Raises:
        ValueError: If lengths differ.

    Example:
        >>> table = truth_table(
        ...     {"loss": np.array([[0.1, 0.2, 0.9, 0.3]])},
        ...     {"noise": np.array([0.0, 0.0, 1.0, 1.0])},
        ...     np.zeros(4, dtype=int),
        ...     draws=0,
        ... )
        >>> table[["score", "truth", "auroc", "lift"]].to_dict("records")
        [{'score': 'loss', 'truth': 'noise', 'auroc': 1.0, 'lift': 2.0}]

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
        DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver
        operating characteristic curves, 1988; the influence function gives their errors for AUROC.
        Romano and Wolf, Exact and approximate stepdown methods for multiple testing, 2005.
    """
    samples = np.size(labels)
    check_axes("labels", labels, ("samples",))
    scores = {name: of_runs(name, runs, samples) for name, runs in scores.items()}
    truths = {name: of_samples(name, truth, samples) for name, truth in truths.items()}
    rows: list[dict[str, Any]] = []
    deviations: dict[str, list[Float[np.ndarray, "draws scores"]]] = {}
    with one_blas_thread():
        for name, truth in truths.items():
            found, drawn = _against(scores, name, truth, labels, control, draws, seed)
            rows += found
            for statistic, deviation in drawn.items():
                deviations.setdefault(statistic, []).append(deviation)
    table = pd.DataFrame(rows)
    for statistic, of_truths in deviations.items():
        kind = "binary" if statistic in BINARY else "graded"
        mine = (table["kind"] == kind).to_numpy()
        errors = table.loc[mine, f"{statistic}_error"].to_numpy(dtype=np.float64)
        reach = simultaneous_reach(np.concatenate(of_truths, axis=1), errors) * errors
        table.loc[mine, f"{statistic}_least"] = table.loc[mine, statistic] - reach
        table.loc[mine, f"{statistic}_most"] = table.loc[mine, statistic] + reach
    return table


def paired_differences(
    scores: Mapping[str, PerRun],
    truth: PerSample,
    labels: PerSample,
    *,
    control: Control = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of every two metrics against one truth, on the same ids and draws.

    If two metrics err on the same samples, their difference is more certain than their own
    intervals suggest.

    Args:
        scores: Hardness by metric, one row per run; one row for a metric without randomness.
        truth: One number per sample, higher is harder; NaN where unknown.
        labels: Given class per sample.
        control: Name and values of the score that ``partial_spearman`` holds fixed; the mean of the
            truth in each class, if left out.
        draws: Number of resamples; 0 for values alone.
        seed: Seed of the resamples.

    Returns:
        One row per pair: ``left``, ``right``, ``samples``, and for each statistic left minus right,
        with its interval ``_low`` and ``_high``.

    Raises:
        ValueError: If lengths differ.

    Example:
        >>> scores = {"a": np.array([[1.0, 2.0, 3.0]]), "b": np.array([[2.0, 1.0, 0.0]])}
        >>> truth, labels = np.array([0.0, 0.0, 1.0]), np.zeros(3, dtype=int)
        >>> paired_differences(scores, truth, labels, draws=0)["auroc"].tolist()
        [1.0]
    """
    truth = of_samples("truth", truth)
    check_axes("labels", labels, ("samples",), len(truth))
    means = {name: mean_over_runs(of_runs(name, runs, len(truth))) for name, runs in scores.items()}
    rows = []
    with one_blas_thread():
        for left, right in combinations(means, 2):
            neither = np.isnan(means[left]) | np.isnan(means[right])
            both = [np.where(neither, np.nan, means[name]) for name in (left, right)]
            x, y = (comparison(one, truth, labels, control) for one in both)
            row: dict[str, Any] = {"left": left, "right": right, "samples": len(x.ids)}
            row |= _difference(x, y)
            for s, (low, high) in _ends_of_difference(x, y, truth, draws, seed).items():
                row |= {f"{s}_low": low, f"{s}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def _strata(truth: Float[np.ndarray, " _"]) -> Strata:
    """Ids of each stratum: positives and negatives, or all ids with a graded truth."""
    if is_binary(truth):
        return [ids for value in (1, 0) if len(ids := np.flatnonzero(truth == value))]
    return [np.flatnonzero(~np.isnan(truth))]


def _centred(influence: Vector, strata: Strata) -> Vector:
    """An influence minus its mean in each stratum; the sum of squares is then a variance."""
    centred = np.zeros_like(influence)
    for ids in strata:
        centred[ids] = influence[ids] - influence[ids].mean()
    return centred


def _difference(x: Comparison, y: Comparison) -> dict[str, float]:
    left, right = x.values(), y.values()
    return {s: left[s] - right[s] for s in left}


def _ends_of_difference(
    x: Comparison, y: Comparison, truth: Vector, draws: int, seed: int
) -> dict[str, tuple[float, float]]:
    values, strata = _difference(x, y), _strata(truth)
    if not draws or x.reason or y.reason:
        return dict.fromkeys(values, (math.nan, math.nan))
    if len(x.ids) > MOST_SAMPLES_TO_RESAMPLE:
        ends = {}
        left, right = x.influences(), y.influences()
        for s, value in values.items():
            moved = np.zeros(len(truth))
            moved[x.ids] += left[s]
            moved[y.ids] -= right[s]
            reach = NORMAL_REACH * math.sqrt(float((_centred(moved, strata) ** 2).sum()))
            ends[s] = (value - reach, value + reach)
        return ends
    drawn: dict[str, list[Float[np.ndarray, " draws"]]] = {s: [] for s in values}
    for weights in resamples(len(truth), strata, draws, (seed, 6)):
        under_x, under_y = x.under(weights[:, x.ids]), y.under(weights[:, y.ids])
        for s, held in drawn.items():
            held.append(under_x[s] - under_y[s])
    both = {s: percentile_ends(np.concatenate(held)[:, None]) for s, held in drawn.items()}
    return {s: (float(low[0]), float(high[0])) for s, (low, high) in both.items()}


def _against(
    scores: Mapping[str, Float[np.ndarray, "_ samples"]],
    name: str,
    truth: Float[np.ndarray, " _"],
    labels: Labels,
    control: Control,
    draws: int,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, Float[np.ndarray, "draws scores"]]]:
    """The table's rows of one truth, and the deviation of each statistic in every draw."""
    statistics = BINARY if is_binary(truth) else GRADED
    strata = _strata(truth)
    rows = in_threads(
        lambda score: _row(score, scores[score], name, truth, labels, control), scores
    )
    if not draws or not strata:
        return rows, {}
    # Draws depend on the truth's name, so that a truth has the same draws in every table.
    own = zlib.crc32(name.encode()) + seed
    means = (mean_over_runs(runs) for runs in scores.values())
    if np.count_nonzero(~np.isnan(truth)) > MOST_SAMPLES_TO_RESAMPLE:
        influences = in_threads(
            lambda mean: _influences(mean, truth, labels, control, statistics, strata), means
        )
        drawn = {
            s: _normal_deviations([one[s] for one in influences], draws, own) for s in statistics
        }
        return _with_errors(rows, drawn, statistics, normal=True), drawn
    ones = [comparison(mean, truth, labels, control) for mean in means]
    chunks = [
        in_threads(partial(_under, weights=weights, statistics=statistics), ones)
        for weights in resamples(len(truth), strata, draws, (own, 6))
    ]
    drawn = {
        s: np.concatenate([np.stack([of[s] for of in chunk], axis=1) for chunk in chunks])
        - np.array([row[s] for row in rows])
        for s in statistics
    }
    return _with_errors(rows, drawn, statistics, normal=False), drawn


def _under(one: Comparison, weights: Weights, statistics: Sequence[str]) -> Drawn:
    if one.reason:
        return {s: np.full(len(weights), np.nan) for s in statistics}
    return one.under(weights[:, one.ids])


def _influences(
    hardness: Vector,
    truth: Float[np.ndarray, " _"],
    labels: Labels,
    control: Control,
    statistics: Sequence[str],
    strata: Strata,
) -> dict[str, tuple[Float[np.ndarray, " samples"], float]]:
    """Centred influences of each statistic, in float32 to save memory, and its standard error."""
    one = comparison(hardness, truth, labels, control)
    if one.reason:
        nothing = np.zeros(len(truth), dtype=np.float32)
        return dict.fromkeys(statistics, (nothing, math.nan))
    found = {}
    for s, influence in one.influences().items():
        whole = np.zeros(len(truth))
        whole[one.ids] = influence
        centred = _centred(whole, strata)
        error = math.sqrt(float(centred @ centred))
        found[s] = np.nan_to_num(centred).astype(np.float32), error
    return found


def _normal_deviations(
    influences: Sequence[tuple[Float[np.ndarray, " samples"], float]], draws: int, seed: int
) -> Float[np.ndarray, "draws scores"]:
    """Draws of all scores' deviations from their joint normal distribution."""
    rows, errors = np.stack([row for row, _ in influences]), np.array([e for _, e in influences])
    sizes, directions = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    normal = np.random.default_rng((seed, 7)).normal(size=(draws, len(rows)))
    found = (normal * np.sqrt(np.maximum(sizes, 0))) @ directions.T
    # The spread of the draws is off by a few per cent, so it is scaled to the known errors.
    spread = found.std(axis=0)
    found *= np.divide(errors, spread, out=np.zeros_like(errors), where=spread > 0)
    found[:, np.isnan(errors)] = np.nan
    return found


def _with_errors(
    rows: Sequence[dict[str, Any]],
    drawn: Mapping[str, Float[np.ndarray, "draws scores"]],
    statistics: Sequence[str],
    *,
    normal: bool,
) -> list[dict[str, Any]]:
    """The rows with standard errors and intervals added."""
    added: list[dict[str, Any]] = [{} for _ in rows]
    for s in statistics:
        exists = ~np.isnan(drawn[s]).all(axis=0)
        errors = np.full(len(rows), np.nan)
        errors[exists] = np.nanstd(drawn[s][:, exists], axis=0)
        low, high = (
            (-NORMAL_REACH * errors, NORMAL_REACH * errors) if normal else percentile_ends(drawn[s])
        )
        for place, row in enumerate(rows):
            added[place] |= {
                f"{s}_low": row[s] + low[place],
                f"{s}_high": row[s] + high[place],
                f"{s}_error": errors[place],
            }
    return [{**row, **more} for row, more in zip(rows, added, strict=True)]


def _row(
    score: str,
    runs: Float[np.ndarray, "_ samples"],
    name: str,
    truth: Float[np.ndarray, " _"],
    labels: Labels,
    control: Control,
) -> dict[str, Any]:
    """Row for the mean over runs of one score against one truth, with the spread over runs."""
    one = comparison(mean_over_runs(runs), truth, labels, control)
    binary = isinstance(one, AgainstBinary)
    values = one.values()
    row: dict[str, Any] = {
        "score": score,
        "truth": name,
        "kind": "binary" if binary else "graded",
        "runs": len(runs),
        "samples": len(one.ids),
        "dropped": len(truth) - len(one.ids),
        "control": "" if binary else control[0] if control else CLASS_MEAN,
        **dict.fromkeys((*BINARY, *GRADED), math.nan),
        **values,
    }
    rate = float(truth[one.ids].mean()) if binary and len(one.ids) else math.nan
    row |= {"base_rate": rate, "lift": row["average_precision"] / rate if rate > 0 else math.nan}
    if len(runs) > 1:
        each = [comparison(run, truth, labels, control).values() for run in runs]
        row |= {f"{s}_spread": float(np.std([run[s] for run in each])) for s in values}
    return {**row, "reason": _reason(one, values, len(truth) - len(one.ids))}


def _reason(one: Comparison, values: Mapping[str, float], dropped: int) -> str:
    reason = one.reason
    if not reason:
        silent = {
            "auroc_within_class": "no class has positives and negatives",
            "spearman_within_class": "in no class do both vary",
            "partial_spearman": "the control leaves nothing of the score or of the truth",
        }
        reason = "; ".join(why for s, why in silent.items() if math.isnan(values.get(s, 0)))
    return counted(Estimate(value=math.nan, reason=reason), dropped).reason


def _estimates(
    hardness: PerSample, truth: PerSample, labels: PerSample | None, draws: int, seed: int
) -> dict[str, Estimate]:
    """Every statistic for a binary truth, with its interval."""
    truth = of_samples("truth", truth)
    if not is_binary(truth):
        graded = truth[~np.isin(truth, (0, 1)) & ~np.isnan(truth)]
        raise ValueError(
            f"truth: expected 0, 1 and NaN alone, as a graded truth is compared by Spearman; got "
            f"{graded[0]:g}"
        )
    hardness = of_samples("hardness", hardness, len(truth))
    classes = np.zeros(len(truth), dtype=np.int64) if labels is None else labels
    one = comparison(hardness, truth, classes, None)
    values = one.values()
    ends: dict[str, tuple[float, float]] = dict.fromkeys(values, (math.nan, math.nan))
    if draws and not one.reason:
        rows, _ = _against({"": hardness[None]}, "", truth, classes, None, draws, seed)
        ends = {s: (rows[0][f"{s}_low"], rows[0][f"{s}_high"]) for s in values}
    reason = _reason(one, values if labels is not None else {}, len(truth) - len(one.ids))
    return {
        s: Estimate(value=value, low=ends[s][0], high=ends[s][1], reason=reason)
        for s, value in values.items()
    }
