"""Ranks with ties, and sets of the hardest samples, on which every comparison of scores builds."""

import math

import numpy as np
from jaxtyping import Bool, Float, Integer

FEWEST_SAMPLES = 2
SAMPLES_AT_ONCE = 65_536
ROUNDING = 1e-9  # a spread below this fraction of the sum of squares counts as constant
Number = float | int  # a run-time checker does not accept an int as a float


def class_codes(labels: Integer[np.ndarray, " samples"]) -> Integer[np.ndarray, " samples"]:
    """Classes as 0, 1, ... in the smallest unsigned type, which NumPy sorts in linear time."""
    classes, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.min_scalar_type(len(classes)))


def class_blocks(codes: Integer[np.ndarray, " samples"]) -> list[slice]:
    """Slice of each class in ascending codes."""
    sizes = np.bincount(codes)
    ends = np.cumsum(sizes)
    return [slice(*ends_of) for ends_of in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]


def ascending_order(
    scores: Float[np.ndarray, "*lists samples"],
) -> Integer[np.ndarray, "*lists samples"]:
    """Stable ``argsort`` of each list, twice as fast as NumPy's for 64 bits.

    It is a radix sort: NumPy sorts 16-bit integers in linear time, and four of these make a float.

    Args:
        scores: Numbers or infinities, no NaN.

    Example:
        >>> ascending_order(np.array([[3.0, -np.inf, 0.0, -0.0]]))
        array([[1, 2, 3, 0]])
    """
    orders = np.empty(scores.shape, dtype=np.intp)
    for place in np.ndindex(scores.shape[:-1]):
        bits = np.add(scores[place], 0.0, dtype=np.float64).view(np.int64)  # -0.0 becomes 0.0
        # Bits of floats ascend as unsigned integers once negative floats have all bits flipped and
        # the others their sign bit.
        keys = (bits ^ (bits >> 63 | np.iinfo(np.int64).min)).view(np.uint64)
        order = np.arange(len(keys))
        for shift in (0, 16, 32, 48):
            digits = (keys >> np.uint64(shift)).astype(np.uint16)
            if (digits != digits[:1]).any():  # equal for the low digits of counts and float32
                order = order[np.argsort(digits[order], kind="stable")]
        orders[place] = order
    return orders


def centred_ranks(
    scores: Float[np.ndarray, "*lists samples"],
    codes: Integer[np.ndarray, " samples"] | None = None,
    *,
    orders: Integer[np.ndarray, "*lists samples"] | None = None,
) -> Float[np.ndarray, "*lists samples"]:
    """Average ranks inside each class, minus their mean; multiples of 1/2, so exact.

    Args:
        scores: Numbers or infinities, no NaN.
        codes: Classes from ``class_codes``; one class, if left out.
        orders: Result of ``ascending_order`` for the scores; computed, if left out.

    Returns:
        One rank per score; the mean in each class is 0.

    Example:
        >>> centred_ranks(np.array([[3.0, 1.0, 3.0]]))
        array([[ 0.5, -1. ,  0.5]])
        >>> centred_ranks(np.array([[3.0, 1.0, 2.0]]), np.array([0, 0, 1]))
        array([[ 0.5, -0.5,  0. ]])
    """
    samples = scores.shape[-1]
    orders = ascending_order(scores) if orders is None else orders
    sizes = np.array([samples]) if codes is None else np.bincount(codes)
    first_places = np.cumsum(sizes) - sizes
    middles = np.repeat(first_places + (sizes - 1) / 2, sizes)
    ranks = np.empty(scores.shape, dtype=np.float64)
    for place in np.ndindex(scores.shape[:-1]):
        order = orders[place]
        if codes is not None:
            order = order[np.argsort(codes[order], kind="stable")]
        ranks[place][order] = _mean_places(scores[place][order], first_places) - middles
    return ranks


def class_mean_correlations(
    x: Float[np.ndarray, "left samples"],
    y: Float[np.ndarray, "right samples"],
    codes: Integer[np.ndarray, " samples"],
) -> Float[np.ndarray, "left right"]:
    """Correlation of every row with every other inside each class, averaged by class size.

    Ranks are multiples of 1/2, so sums of their products are exact in any order up to 300,000
    samples per class.

    Args:
        x: Rows of ``centred_ranks`` for the same classes; float32 if it holds them exactly.
        y: Rows of the same kind.
        codes: Classes from ``class_codes``.

    Returns:
        Matrix of means over the classes in which both rows vary; NaN if there is no such class.

    Example:
        >>> rows = np.array([[-0.5, 0.5, -0.5, 0.5], [-0.5, 0.5, 0.0, 0.0]])
        >>> class_mean_correlations(rows, rows, np.array([0, 0, 1, 1]))
        array([[1., 1.],
               [1., 1.]])
    """
    same = y is x
    if (codes[1:] < codes[:-1]).any():
        by_class = np.argsort(codes, kind="stable")
        codes, x = codes[by_class], np.take(x, by_class, axis=1)
        y = x if same else np.take(y, by_class, axis=1)
    sums, weights = np.zeros((2, len(x), len(y)))
    for block in class_blocks(codes):
        products, of_left, of_right = _products(x[:, block], y[:, block], same=same)
        spread = np.sqrt(np.outer(of_left, of_right))
        size, varies = block.stop - block.start, spread > 0
        sums += size * np.divide(products, spread, out=np.zeros_like(spread), where=varies)
        weights += size * varies
    with np.errstate(invalid="ignore"):
        return np.clip(sums / weights, -1, 1)


def _products(
    x: Float[np.ndarray, "left samples"], y: Float[np.ndarray, "right samples"], *, same: bool
) -> tuple[
    Float[np.ndarray, "left right"], Float[np.ndarray, " left"], Float[np.ndarray, " right"]
]:
    """Dot products of every row of x with every row of y, and sums of squares of the rows.

    Float64 sums over some samples at a time, so that float32 rows are never copied whole.
    """
    products = np.zeros((len(x), len(y)))
    of_left, of_right = np.zeros(len(x)), np.zeros(len(y))
    for start in range(0, x.shape[1], SAMPLES_AT_ONCE):
        part = slice(start, start + SAMPLES_AT_ONCE)
        left = x[:, part].astype(np.float64, copy=False)
        right = left if same else y[:, part].astype(np.float64, copy=False)
        products += left @ right.T
        of_left += np.einsum("rs,rs->r", left, left)
        of_right += np.einsum("rs,rs->r", right, right)
    return products, of_left, of_right


def standardised(
    ranks: Float[np.ndarray, "rows samples"], codes: Integer[np.ndarray, " samples"]
) -> tuple[Float[np.ndarray, "rows samples"], Bool[np.ndarray, "rows classes"]]:
    """Centred ranks scaled to mean square 1 inside each class, and whether they vary there.

    The dot product of two such rows is the sum of n_c r_c over classes. A constant class stays 0.

    Args:
        ranks: Rows of ``centred_ranks`` for the same classes; float32 if it holds them exactly.
        codes: Classes from ``class_codes``.

    Returns:
        The scaled rows in float64, and for each row and class whether the ranks vary.

    Example:
        >>> standardised(np.array([[-0.5, 0.5, 0.0]]), np.array([0, 0, 1]))
        (array([[-1.,  1.,  0.]]), array([[ True, False]]))
    """
    sizes = np.bincount(codes)
    if len(sizes) == 1:  # same result without the codes: sums of quarters are exact
        spreads = np.einsum("rs,rs->r", ranks, ranks, dtype=np.float64)[:, None]
    else:
        squares = (np.square(row, dtype=np.float64) for row in ranks)
        of_rows = [np.bincount(codes, weights=row, minlength=len(sizes)) for row in squares]
        spreads = np.array(of_rows).reshape(len(ranks), len(sizes))  # works without rows
    scales = np.sqrt(np.divide(sizes, spreads, out=np.zeros(spreads.shape), where=spreads > 0))
    if len(sizes) > 1:  # one class broadcasts, in a third of the time
        scales = scales[:, codes]
    return ranks * scales, spreads > 0


def topk_borders(
    scores: Float[np.ndarray, "rows samples"],
    percent: Number,
    *,
    orders: Integer[np.ndarray, "rows samples"] | None = None,
) -> Float[np.ndarray, " rows"]:
    """Smallest score in the hardest ``percent`` % of every row; ties may belong in part.

    Args:
        scores: Scores or ranks, no NaN; at least one sample.
        percent: Size of the top, from 1 to 100.
        orders: Result of ``ascending_order`` for the scores, which saves time; may be left out.

    Example:
        >>> topk_borders(np.array([[9.0, 5.0, 5.0, 1.0]]), 50)
        array([5.])
    """
    place = scores.shape[1] - math.ceil(percent * scores.shape[1] / 100)
    if orders is None:
        return np.partition(scores, place, axis=1)[:, place]
    return np.take_along_axis(scores, orders[:, [place]], axis=1)[:, 0]


def topk_overlaps(
    x: Float[np.ndarray, "left samples"],
    y: Float[np.ndarray, "right samples"],
    percent: Number,
    *,
    borders: tuple[Float[np.ndarray, " left"], Float[np.ndarray, " right"]] | None = None,
) -> Float[np.ndarray, "left right"]:
    """Shared fraction of the hardest ``percent`` % of every row with every other.

    A sample's share in a top is 1 above the border and 0 below; samples that tie with the border
    have equal fractions. So sums of minima follow from four matrix products, without a pass over
    the samples for every pair of rows.

    Args:
        x: Scores or ranks, no NaN.
        y: Scores or ranks of the same samples, no NaN.
        percent: Size of the top, from 1 to 100; k is that part of the samples.
        borders: Results of ``topk_borders`` for x and y; computed, if left out.

    Returns:
        Sum of minima of the two shares, divided by k; NaN without samples.

    Raises:
        ValueError: If ``percent`` is above 100 or below 1; a share such as 0.1 is refused.

    Example:
        >>> rows = np.array([[9.0, 5.0, 5.0, 1.0], [9.0, 1.0, 7.0, 5.0]])
        >>> topk_overlaps(rows, rows, 50)
        array([[1.  , 0.75],
               [0.75, 1.  ]])
    """
    if not 1 <= percent <= 100:  # noqa: PLR2004
        raise ValueError(f"percent: expected from 1 to 100, 10 for a tenth; got {percent}")
    if not x.shape[1]:
        return np.full((len(x), len(y)), np.nan)
    x_borders, y_borders = borders or (None, None)
    x_sets, x_part = x_top = _top(x, percent, x_borders)
    y_sets, y_part = x_top if y is x else _top(y, percent, y_borders)
    # Only samples in a top on both sides count, and they are few.
    columns = np.flatnonzero(x_sets.any(axis=0) & y_sets.any(axis=0))
    # Exact in float32, which holds all whole numbers below 2^24.
    left, right = (np.take(sets, columns, axis=1).astype(np.float32) for sets in (x_sets, y_sets))
    products = left @ right.T
    above, tied = slice(len(x)), slice(len(x), None)
    right_above, right_tied = slice(len(y)), slice(len(y), None)
    shared = (
        products[above, right_above]
        + products[above, right_tied] * y_part
        + products[tied, right_above] * x_part[:, None]
        + products[tied, right_tied] * np.minimum(x_part[:, None], y_part)
    )
    return shared / (percent * x.shape[1] / 100)


def _mean_places(
    ordered: Float[np.ndarray, " samples"], first_places: Integer[np.ndarray, " classes"]
) -> Float[np.ndarray, " samples"]:
    """Mean position, from 0, of each group of ties; a group never crosses classes."""
    changes = np.ones(len(ordered), dtype=np.bool_)
    changes[1:] = ordered[1:] != ordered[:-1]
    if len(ordered):
        changes[first_places] = True
    if changes.all():  # no ties, as in most metrics
        return np.arange(len(ordered), dtype=np.float64)
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=len(ordered))
    return np.repeat(starts + (lengths - 1) / 2, lengths)


def _top(
    scores: Float[np.ndarray, "rows samples"],
    percent: Number,
    borders: Float[np.ndarray, " rows"] | None,
) -> tuple[Bool[np.ndarray, "sets samples"], Float[np.ndarray, " rows"]]:
    """Membership in each row's top: samples above the border, ties with it, and the ties' share.

    The sets above the border come first, for all rows; then the sets of ties.
    """
    borders = topk_borders(scores, percent) if borders is None else borders
    sets = np.concatenate([scores > borders[:, None], scores == borders[:, None]])
    above, tied = np.array([np.count_nonzero(row) for row in sets]).reshape(2, len(scores))
    return sets, (percent * scores.shape[1] / 100 - above) / tied
