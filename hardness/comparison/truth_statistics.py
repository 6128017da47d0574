"""One score against one truth: statistics as functions of weights on the samples.

Weights of 1 give the value of a statistic, weights of a resample its value in that resample. So
samples are ranked only once. Derivatives at weights of 1 give the standard error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.sparse import csr_array

from hardness.comparison.ranks import (
    FEWEST_SAMPLES,
    ROUNDING,
    centred_ranks,
    class_blocks,
    class_codes,
)
from hardness.shapes import PerSample, check_axes, of_samples

BINARY = ("auroc", "auroc_within_class", "average_precision", "precision_at_pi")
GRADED = ("spearman", "spearman_within_class", "partial_spearman")
Vector = Float[np.ndarray, " samples"]
Labels = Integer[np.ndarray, " samples"]
Row = Float[np.ndarray, " kept"]
Drawn = dict[str, Float[np.ndarray, " draws"]]


def is_binary(truth: PerSample) -> bool:
    """Whether a truth has only the values 0, 1 and NaN (unknown).

    Example:
        >>> is_binary(np.array([0.0, 1.0, np.nan])), is_binary(np.array([0.0, 2.0]))
        (True, False)
    """
    truth = of_samples("truth", truth)
    return bool(np.isin(truth[~np.isnan(truth)], (0, 1)).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segments:
    """Ids in descending hardness inside each class, cut into segments.

    Each group of ties with a positive is one segment. The negatives between two such groups are one
    segment, since their order does not matter.
    """

    order: Integer[np.ndarray, " kept"]
    starts: Integer[np.ndarray, " segments"]
    class_starts: Integer[np.ndarray, " classes"]  # places in ``starts``

    def sums(self, columns: Float[np.ndarray, "kept draws"]) -> Float[np.ndarray, "draws segments"]:
        """Sum over each segment; a sparse product avoids reordering the columns."""
        bounds = np.append(self.starts, len(self.order))
        shape = len(self.starts), len(self.order)
        member = csr_array((np.ones(len(self.order)), self.order, bounds), shape=shape)
        return np.ascontiguousarray((member @ columns).T)

    def of_ids(self) -> Integer[np.ndarray, " kept"]:
        """Segment of each id."""
        segments = np.empty(len(self.order), dtype=np.int64)
        lengths = np.diff(self.starts, append=len(self.order))
        segments[self.order] = np.repeat(np.arange(len(self.starts)), lengths)
        return segments

    def of_classes(self) -> Integer[np.ndarray, " segments"]:
        """Class of each segment."""
        lengths = np.diff(self.class_starts, append=len(self.starts))
        return np.repeat(np.arange(len(self.class_starts)), lengths)


def _segments(hardness: Vector, positive: Bool[np.ndarray, " samples"], codes: Labels) -> _Segments:
    order = np.argsort(-hardness, kind="stable")
    order = order[np.argsort(codes[order], kind="stable")]
    values, classes = hardness[order], codes[order]
    new_class = np.append(True, classes[1:] != classes[:-1])
    groups = np.flatnonzero(new_class | np.append(True, values[1:] != values[:-1]))
    holds = np.add.reduceat(positive[order].astype(np.int64), groups) > 0
    # A group without positives joins the group before if that has none either.
    kept = new_class[groups] | holds | np.append(True, holds[:-1])
    starts = groups[kept]
    return _Segments(order=order, starts=starts, class_starts=np.flatnonzero(new_class[starts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstBinary:
    """One score against a binary truth.

    Args:
        ids: Samples that have a score and a truth.
        positive: Mask of the positives among ``ids``.
        pooled: Segments of the ids as one class.
        within: Segments of the ids class by class.
        reason: Why no statistic exists; empty if some do.
    """

    ids: Integer[np.ndarray, " kept"]
    positive: Bool[np.ndarray, " kept"]
    pooled: _Segments
    within: _Segments
    reason: str

    def values(self) -> dict[str, float]:
        """Every statistic at weights of 1; NaN where it does not exist."""
        return _values(self, BINARY)

    def under(self, weights: Float[np.ndarray, "draws kept"]) -> Drawn:
        """Every statistic under each row of weights on ``ids``."""
        columns = np.ascontiguousarray(weights.T)
        of_positives = columns * self.positive[:, None]
        tp, n = self.pooled.sums(of_positives), self.pooled.sums(columns)
        tp_within, n_within = self.within.sums(of_positives), self.within.sums(columns)
        return {
            "auroc": _area(tp, n - tp, self.pooled.class_starts),
            "auroc_within_class": _area(tp_within, n_within - tp_within, self.within.class_starts),
            "average_precision": _average_precision(tp, n),
            "precision_at_pi": _precision_at_pi(tp, n),
        }

    def influences(self) -> dict[str, Float[np.ndarray, " kept"]]:
        """Derivative of every statistic by the weight of each of ``ids``."""
        return {
            "auroc": _influence_on_area(self.pooled, self.positive),
            "auroc_within_class": _influence_on_area(self.within, self.positive),
            "average_precision": _influence_on_average_precision(self.pooled, self.positive),
            "precision_at_pi": _influence_on_precision(self.pooled, self.positive),
        }


def _area(
    tp: Float[np.ndarray, "draws segments"],
    fp: Float[np.ndarray, "draws segments"],
    class_starts: Integer[np.ndarray, " classes"],
) -> Float[np.ndarray, " draws"]:
    """AUROC inside each class, averaged by class size."""
    of_class = np.diff(class_starts, append=tp.shape[1])
    positives, negatives = (np.add.reduceat(one, class_starts, axis=1) for one in (tp, fp))
    harder = np.cumsum(fp, axis=1) - fp  # negatives in earlier segments, of earlier classes too
    harder -= np.repeat(harder[:, class_starts], of_class, axis=1)
    easier = np.repeat(negatives, of_class, axis=1) - harder - fp
    wins = np.add.reduceat(tp * (easier + fp / 2), class_starts, axis=1)
    pairs = positives * negatives
    sizes = np.where(pairs > 0, positives + negatives, 0)
    areas = np.divide(wins, pairs, out=np.zeros_like(wins), where=pairs > 0)
    with np.errstate(invalid="ignore"):
        return (sizes * areas).sum(axis=1) / sizes.sum(axis=1)


def _average_precision(
    tp: Float[np.ndarray, "draws segments"], n: Float[np.ndarray, "draws segments"]
) -> Float[np.ndarray, " draws"]:
    above, positives = np.cumsum(n, axis=1), tp.sum(axis=1)
    precision = np.divide(np.cumsum(tp, axis=1), above, out=np.zeros_like(tp), where=above > 0)
    with np.errstate(invalid="ignore"):
        return (tp * precision).sum(axis=1) / positives


def _precision_at_pi(
    tp: Float[np.ndarray, "draws segments"], n: Float[np.ndarray, "draws segments"]
) -> Float[np.ndarray, " draws"]:
    size = tp.sum(axis=1)
    room = size[:, None] - (np.cumsum(n, axis=1) - n)
    part = np.clip(np.divide(room, n, out=np.zeros_like(n), where=n > 0), 0, 1)
    with np.errstate(invalid="ignore"):
        return (part * tp).sum(axis=1) / size


def _influence_on_area(
    segments: _Segments, positive: Bool[np.ndarray, " kept"]
) -> Float[np.ndarray, " kept"]:
    """Influence of an id in class c: its share of wins minus A_c, plus A_c - A for class size."""
    starts, classes, place = segments.class_starts, segments.of_classes(), segments.of_ids()
    n = segments.sums(np.ones((len(positive), 1)))[0]
    tp = segments.sums(positive[:, None].astype(np.float64))[0]
    fp = n - tp
    positives, negatives = (np.add.reduceat(one, starts)[classes] for one in (tp, fp))
    above, harder = (np.cumsum(one) - one for one in (tp, fp))
    above, harder = (one - one[starts][classes] for one in (above, harder))
    pairs = positives * negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        wins = (negatives - harder - fp / 2) / negatives  # share of each positive
        losses = (above + tp / 2) / positives  # share of each negative
        area = (np.add.reduceat(tp * wins, starts) / np.add.reduceat(tp, starts))[classes]
        sizes = np.where(pairs > 0, positives + negatives, 0)
        total = n[pairs > 0].sum()
        mean = (n * np.where(pairs > 0, area, 0)).sum() / total
        of_positive = sizes / total * (wins - area) / positives
        of_negative = sizes / total * (losses - area) / negatives
    found = np.where(positive, of_positive[place], of_negative[place])
    return np.where((pairs > 0)[place], found + (area[place] - mean) / total, 0)


def _influence_on_average_precision(
    segments: _Segments, positive: Bool[np.ndarray, " kept"]
) -> Float[np.ndarray, " kept"]:
    """An id changes the precision at its own threshold and at every later one."""
    place = segments.of_ids()
    n = segments.sums(np.ones((len(positive), 1)))[0]
    tp = segments.sums(positive[:, None].astype(np.float64))[0]
    total, above, right = tp.sum(), np.cumsum(n), np.cumsum(tp)
    later = (np.cumsum(one[::-1])[::-1] for one in (tp * (above - right) / above**2,
                                                     tp * right / above**2))  # fmt: skip
    gain, loss = later
    mean = (tp * right / above).sum() / total
    return np.where(positive, (right / above - mean + gain)[place], -loss[place]) / total


def _influence_on_precision(
    segments: _Segments, positive: Bool[np.ndarray, " kept"]
) -> Float[np.ndarray, " kept"]:
    """An id above the border joins the top and pushes out one id at the border.

    A positive also makes the top larger by one. The share of positives at the border is estimated
    from as many ids around it as the border's own error covers.
    """
    size, samples = int(positive.sum()), len(positive)
    n = segments.sums(np.ones((samples, 1)))[0]
    tp = segments.sums(positive[:, None].astype(np.float64))[0]
    part = np.clip((size - (np.cumsum(n) - n)) / n, 0, 1)
    member = part[segments.of_ids()]
    precision = float((part * tp).sum() / size)
    reach = math.isqrt(samples)
    near = segments.order[max(size - reach, 0) : size + reach]
    border = int(np.searchsorted(np.cumsum(n), size))
    tied = tp[border] > 0 and n[border] > 2 * reach
    rate = float(tp[border] / n[border]) if tied else float(positive[near].mean())
    of_positive = member - precision + rate * (1 - member)
    return np.where(positive, of_positive, -member * rate) / size


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstGraded:
    """One score against a graded truth, ranked once.

    Args:
        ids: Samples that have score, truth and control, one class after the other.
        codes: Classes of the ids.
        pooled: Ranks of score, truth and control.
        within: Ranks of score and truth in each class.
        reason: Why no statistic exists; empty if some do.
    """

    ids: Integer[np.ndarray, " kept"]
    codes: Integer[np.ndarray, " kept"]
    pooled: Float[np.ndarray, "3 kept"]
    within: Float[np.ndarray, "2 kept"]
    reason: str

    def values(self) -> dict[str, float]:
        """Every statistic at weights of 1; NaN where it does not exist."""
        return _values(self, GRADED)

    def under(self, weights: Float[np.ndarray, "draws kept"]) -> Drawn:
        """Every statistic under each row of weights on ``ids``."""
        one = np.zeros_like(self.codes)
        x, y, z = self.pooled
        rhos = [_correlation(weights, u, v, one) for u, v in ((x, y), (x, z), (y, z))]
        return {
            "spearman": rhos[0],
            "spearman_within_class": _correlation(
                weights, self.within[0], self.within[1], self.codes
            ),
            "partial_spearman": _partial(*rhos),
        }

    def influences(self) -> dict[str, Float[np.ndarray, " kept"]]:
        """Derivative of every statistic by the weight of each of ``ids``."""
        one, ones = np.zeros_like(self.codes), np.ones((1, len(self.codes)))
        x, y, z = self.pooled
        pairs = ((x, y), (x, z), (y, z))
        moved = [_influence_on_correlation(u, v, one) for u, v in pairs]
        r_xy, r_xz, r_yz = (float(_correlation(ones, u, v, one)[0]) for u, v in pairs)
        with np.errstate(divide="ignore", invalid="ignore"):
            norm = np.sqrt((1 - np.float64(r_xz) ** 2) * (1 - np.float64(r_yz) ** 2))
            partial = (r_xy - r_xz * r_yz) / norm
            by_xz = -r_yz / norm + partial * r_xz / (1 - np.float64(r_xz) ** 2)
            by_yz = -r_xz / norm + partial * r_yz / (1 - np.float64(r_yz) ** 2)
            moves_partial = moved[0] / norm + by_xz * moved[1] + by_yz * moved[2]
        return {
            "spearman": moved[0],
            "spearman_within_class": _influence_on_correlation(
                self.within[0], self.within[1], self.codes
            ),
            "partial_spearman": moves_partial,
        }


def _correlation(
    weights: Float[np.ndarray, "draws kept"], x: Row, y: Row, codes: Integer[np.ndarray, " kept"]
) -> Float[np.ndarray, " draws"]:
    """Correlation inside each class, averaged by size over classes in which both vary."""
    sums = np.zeros((2, len(weights)))
    for block in class_blocks(codes):
        w, u, v = weights[:, block], x[block], y[block]
        n = w.sum(axis=1)
        moments = np.stack([u, v, u * u, v * v, u * v])
        of_u, of_v, of_uu, of_vv, of_uv = (w @ moments.T).T
        spreads = n * of_uu - of_u**2, n * of_vv - of_v**2
        both = (spreads[0] > ROUNDING * n * of_uu) & (spreads[1] > ROUNDING * n * of_vv)
        below = np.sqrt(np.where(both, spreads[0] * spreads[1], 1))
        sums += n * both * np.stack([(n * of_uv - of_u * of_v) / below, np.ones(len(w))])
    with np.errstate(invalid="ignore"):
        return sums[0] / sums[1]


def _influence_on_correlation(x: Row, y: Row, codes: Integer[np.ndarray, " kept"]) -> Row:
    """``x y - r_c (x^2 + y^2) / 2 + r_c - r`` of standardised ranks, divided by the ids used."""
    found, areas, sizes = np.zeros(len(x)), np.zeros(len(x)), 0
    for block in class_blocks(codes):
        spreads = x[block].std(), y[block].std()
        if min(spreads) > 0:
            u, v = (
                (x[block] - x[block].mean()) / spreads[0],
                (y[block] - y[block].mean()) / spreads[1],
            )
            rho = float((u * v).mean())
            found[block] = u * v - rho * (u * u + v * v) / 2
            areas[block] = rho
            sizes += len(u)
        else:
            areas[block] = np.nan
    if not sizes:
        return np.full(len(x), np.nan)
    return np.where(np.isnan(areas), 0, found + areas - np.nansum(areas) / sizes) / sizes


def _partial(
    r_xy: Float[np.ndarray, " draws"],
    r_xz: Float[np.ndarray, " draws"],
    r_yz: Float[np.ndarray, " draws"],
) -> Float[np.ndarray, " draws"]:
    left = (1 - r_xz**2) * (1 - r_yz**2)
    defined = left > ROUNDING
    return np.where(defined, (r_xy - r_xz * r_yz) / np.sqrt(np.where(defined, left, 1)), np.nan)


def comparison(
    hardness: PerSample,
    truth: PerSample,
    labels: PerSample,
    control: tuple[str, PerSample] | None,
) -> AgainstBinary | AgainstGraded:
    """Compare one score with one binary or graded truth, over the ids that have both.

    Args:
        hardness: Hardness by one metric.
        truth: One number per sample, higher is harder; NaN where unknown.
        labels: Given class per sample.
        control: Name and values of the score that ``partial_spearman`` holds fixed; the mean of the
            truth in each class, if left out.

    Raises:
        ValueError: If lengths differ.
    """
    hardness = of_samples("hardness", hardness)
    truth = of_samples("truth", truth, len(hardness))
    check_axes("labels", labels, ("samples",), len(hardness))
    kept = ~(np.isnan(hardness) | np.isnan(truth))
    if is_binary(truth):
        return _binary(hardness, truth, labels, np.flatnonzero(kept))
    fixed = None if control is None else of_samples(control[0], control[1], len(hardness))
    if fixed is not None:
        kept &= ~np.isnan(fixed)
    ids = np.flatnonzero(kept)
    ids = ids[np.argsort(labels[ids], kind="stable")]
    codes = class_codes(labels[ids])
    x, y = hardness[ids], truth[ids]
    held = _class_means(y, codes) if fixed is None else fixed[ids]
    three = np.stack([x, y, held])
    reason = ""
    if len(ids) < FEWEST_SAMPLES:
        reason = f"needs {FEWEST_SAMPLES} samples with a score and a truth, got {len(ids)}"
    elif (constant := (three[:2] == three[:2, :1]).all(axis=1)).any():
        sides = [side for side, ties in zip(("score", "truth"), constant, strict=True) if ties]
        reason = f"all samples tie in {' and '.join(sides)}"
    return AgainstGraded(
        ids=ids,
        codes=codes,
        pooled=centred_ranks(three),
        within=centred_ranks(three[:2], codes),
        reason=reason,
    )


def _binary(
    hardness: Vector, truth: Vector, labels: Labels, ids: Integer[np.ndarray, " kept"]
) -> AgainstBinary:
    positive, codes = truth[ids] == 1, class_codes(labels[ids])
    lacking = [
        side
        for side, count in (("positives", positive.sum()), ("negatives", (~positive).sum()))
        if not count
    ]
    empty = _Segments(order=ids[:0], starts=ids[:0], class_starts=ids[:0])
    some = len(ids) > 0
    return AgainstBinary(
        ids=ids,
        positive=positive,
        pooled=_segments(hardness[ids], positive, np.zeros_like(codes)) if some else empty,
        within=_segments(hardness[ids], positive, codes) if some else empty,
        reason=f"no {' and no '.join(lacking)}" if lacking else "",
    )


def _class_means(truth: Vector, codes: Labels) -> Vector:
    return (np.bincount(codes, weights=truth) / np.bincount(codes))[codes] if len(codes) else truth


def _values(one: AgainstBinary | AgainstGraded, statistics: Sequence[str]) -> dict[str, float]:
    if one.reason:
        return dict.fromkeys(statistics, math.nan)
    found = one.under(np.ones((1, len(one.ids))))
    return {statistic: float(values[0]) for statistic, values in found.items()}
