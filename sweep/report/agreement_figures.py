"""Figures of agreement and of truth."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from hardness.comparison.stability import spearman_pair_mean
from hardness.comparison.supervised_reference import supervised_reference
from hardness.metrics.registry import METRICS
from hardness.planting.options import TRUTH
from sweep.aggregation.aggregate import Aggregate
from sweep.aggregation.agreement_table import MEMBERS, REFERENCE
from sweep.aggregation.collected_scores import ConfigurationScores, headline
from sweep.report.style import (
    BLUE,
    FAINT,
    INK,
    LABELS,
    QUIET,
    VERMILLION,
    foot,
    missing_line,
    signed,
)

FAMILIES = ("supervised", "loss-based", "unsupervised", "uncertainty")
_SCORES_OF_A_KIND = 12  # most lines in the truth figure for each use of labels
_MOST_CELLS_WITH_VALUES = 80  # most cells in a row for which values are printed
_DARK_BLUE = 0.8  # above this correlation values are printed in white
_DIVERGING = LinearSegmentedColormap.from_list("agreement", [VERMILLION, "#F7F7F7", BLUE])


def agreement_matrix(
    table: pd.DataFrame, own: Mapping[str, float]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of pairs as a symmetric matrix, ordered by family.

    A metric that is part of the supervised reference was compared with the other part only. This
    value is shown in the reference's row.

    Args:
        table: ``Aggregate.agreement``.
        own: Agreement of a score set with itself, for the diagonal, by name.

    Returns:
        Spearman correlations with score sets as rows and columns, NaN without a value; and the
        family of each score set. The reference comes first. In a family, the score sets that agree
        best with the reference come first.
    """
    if table.empty:
        return pd.DataFrame(), {}
    sides = (
        table["left"],
        table["right"].where(~table["right"].str.startswith(REFERENCE), REFERENCE),
    )
    families = dict(zip(sides[0], table["family_left"], strict=True))
    families |= dict(zip(sides[1], table["family_right"], strict=True))
    matrix = pd.DataFrame(math.nan, index=[*families], columns=[*families])
    for left, right, rho in zip(*sides, table["spearman"], strict=True):
        matrix.loc[left, right] = matrix.loc[right, left] = rho
    for name in families:
        matrix.loc[name, name] = own.get(name, math.nan)
    closeness = matrix[REFERENCE].to_dict() if REFERENCE in matrix else dict.fromkeys(families, 0.0)
    places = {family: place for place, family in enumerate(FAMILIES)}

    def place(name: str) -> tuple[bool, int, float]:
        near = -closeness[name] if math.isfinite(closeness[name]) else math.inf
        return name != REFERENCE, places.get(families[name], len(places)), near

    order = sorted(families, key=place)
    return matrix.loc[order, order], {name: families[name] for name in order}


def own_agreement(result: Aggregate) -> dict[str, float]:
    """Agreement of every score set with itself under another seed.

    Args:
        result: The aggregation.

    Returns:
        Mean Spearman correlation of two seeds, by the score set's name in ``Aggregate.agreement``.
        It is 1 for pixel and imported scores, which do not depend on a seed.
    """
    own = dict.fromkeys([*result.pixels, *result.given], 1.0)
    pairs, rows = result.agreement, result.stability
    if pairs.empty or rows.empty:
        return own
    used = {*pairs["configuration_id_left"], *pairs["configuration_id_right"]}
    rows = rows[rows["configuration_id"].isin(used)]
    values = rows["spearman_pair_mean"].astype(float)
    own |= dict(zip(rows["metric"] + "." + rows["regimen"], values, strict=True))
    with_reference = pairs["right"].str.startswith(REFERENCE)
    reference = {*pairs.loc[with_reference, "configuration_id_right"]}
    for one in result.scores:
        if one.configuration.configuration_id in reference and {*MEMBERS} <= one.raw.keys():
            whole = supervised_reference({key: one.hardness(key) for key in MEMBERS})
            own[REFERENCE] = spearman_pair_mean(whole).value
    return own


def truth_rows(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows of the truth figure, best scores first.

    Args:
        table: ``Aggregate.truth``.
        most: Most scores for each use of labels (none, others, own).

    Returns:
        Rows of the table that measure hardness, without variants, ordered by the use of labels. In
        each use, scores are ordered by their largest distance from chance over all truths.
    """
    if table.empty:
        return table
    known = [key for key in table["metric"].unique() if key in METRICS]
    shown = table["metric"].isin(headline(known)) | ~table["metric"].isin(known)
    rows = table[shown & (table["measures"] == "hardness")]
    value = 2 * rows["auroc"] - 1 if "auroc" in rows else pd.Series(math.nan, index=rows.index)
    if "spearman" in rows:
        value = value.fillna(rows["spearman"])
    rows = rows.assign(distance=value.abs()).dropna(subset="distance")
    best = rows.groupby(["labels_used", "score"], sort=False)["distance"].max().reset_index()
    places = {used: place for place, used in enumerate(LABELS)}
    best = best[best["labels_used"].isin(places)].sort_values("distance", ascending=False)
    best = best.groupby("labels_used", sort=False).head(most)
    best = best.sort_values("labels_used", key=lambda used: used.map(places), kind="stable")
    order = {score: place for place, score in enumerate(best["score"])}
    rows = rows[rows["score"].isin(order)].drop(columns="distance")
    return rows.sort_values("score", key=lambda score: score.map(order), kind="stable")


def agreement_figure(
    matrix: pd.DataFrame, families: Mapping[str, str], best: Sequence[ConfigurationScores]
) -> Figure | None:
    """Heatmap of ``agreement_matrix``, with missing seeds in small print."""
    values = matrix.to_numpy(dtype=np.float64)
    count = len(values)
    if not np.isfinite(values[~np.eye(count, dtype=bool)]).any():
        return None
    cell_in = 0.36 if count <= _MOST_CELLS_WITH_VALUES else 0.16
    names_in = 0.075 * max(map(len, families)) + 0.2
    width_in = names_in + max(cell_in * count, 3.2) + 1.1
    figure = Figure((width_in, names_in + max(cell_in * count, 1.5) + 1.9), layout="constrained")
    axis = figure.subplots()
    axis.patch.set(facecolor="#EEEEEE", hatch="////", edgecolor="#BBBBBB", linewidth=0)
    edges = np.arange(count + 1) - 0.5
    mesh = axis.pcolormesh(
        edges, edges, np.ma.masked_invalid(values), cmap=_DIVERGING, vmin=-1, vmax=1
    )
    axis.invert_yaxis()
    if count <= _MOST_CELLS_WITH_VALUES:
        _cell_values(axis, values)
    axis.set_xticks(range(count), matrix.columns, rotation=90)
    axis.set_yticks(range(count), matrix.index)
    axis.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    _family_separators(axis, ["reference" if n == REFERENCE else families[n] for n in families])
    for place in np.flatnonzero(np.isfinite(values.diagonal())):  # a frame: not a pair of metrics
        corner = place - 0.42, place - 0.42
        axis.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, lw=0.9, ec=INK, zorder=3))
    axis.set_title("Do metrics agree on which samples are hard?", pad=10)
    foot(axis, [_agreement_caption(matrix), *map(missing_line, best)], width_in - names_in, below=6)
    bar = figure.colorbar(mesh, ax=axis, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def _cell_values(axis: Axes, values: np.ndarray) -> None:
    """Print the values in the cells: one outline per distinct number, repeated at every cell.

    A heatmap has thousands of cells but about two hundred distinct numbers. A text per cell would
    take ten times as long as the rest of the figure.
    """
    finite = np.isfinite(values)
    numbers = np.round(values, 2) + 0.0
    in_points = Affine2D().scale(1 / 72) + axis.figure.dpi_scale_trans
    for number in np.unique(numbers[finite]):
        rows, columns = np.nonzero(finite & (numbers == number))
        outline = TextPath((0, 0), signed(number).replace("0.", "."), size=8)
        centre = outline.get_extents().get_points().mean(axis=0)
        stamps = PathCollection(
            [outline.transformed(Affine2D().translate(*-centre))],
            offsets=np.column_stack((columns, rows)), offset_transform=axis.transData,
            facecolors="white" if number > _DARK_BLUE else INK, linewidths=0,
        )  # fmt: skip
        stamps.set_transform(in_points)
        stamps.set_in_layout(False)
        axis.add_collection(stamps, autolim=False)


def _family_separators(axis: Axes, families: Sequence[str]) -> None:
    starts = [p for p in range(len(families)) if p == 0 or families[p] != families[p - 1]]
    for start, end in zip(starts, [*starts[1:], len(families)], strict=True):
        if start:
            axis.axhline(start - 0.5, color="white", lw=4)
            axis.axvline(start - 0.5, color="white", lw=4)
        axis.text(
            1.01, (start + end - 1) / 2, families[start], transform=axis.get_yaxis_transform(),
            va="center", fontsize=9, color=QUIET,
        )  # fmt: skip


def _agreement_caption(matrix: pd.DataFrame) -> str:
    sentences = ["Spearman correlation of hardness from disjoint runs."]
    if np.isfinite(matrix.to_numpy().diagonal()).any():
        sentences.append("Framed diagonal: a metric with itself under another seed.")
    if REFERENCE in matrix:
        sentences.append(
            "A metric of the supervised reference is compared with the other part of it."
        )
    if matrix.isna().any(axis=None):
        sentences.append("Hatched: undefined.")
    return " ".join(sentences)


def truth_figure(table: pd.DataFrame) -> Figure | None:
    """How well scores find each truth, one panel per truth."""
    rows = truth_rows(table, _SCORES_OF_A_KIND)
    if rows.empty:
        return None
    scores = rows.drop_duplicates("score").set_index("score")["labels_used"]
    names = [*dict.fromkeys(rows["truth"])]
    # A gap separates scores that use labels differently.
    new = scores.ne(scores.shift()).to_numpy()[1:]
    y = pd.Series(np.arange(len(scores)) + np.append(0, np.cumsum(new)), index=scores.index)
    width_in = 2.6 + 2.4 * len(names)
    figure = Figure((max(width_in, 7.0), 0.19 * (y.iloc[-1] + 1) + 1.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        _truth_panel(axis, rows[rows["truth"] == name], y)
    axes[0].set_yticks(y, scores.index)
    axes[0].set_ylim(y.iloc[-1] + 0.6, -0.6)
    used = [kind for kind in LABELS if kind in {*scores}]
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, c=LABELS[kind][0], label=f"uses {LABELS[kind][1]}")
        for kind in used
    ]
    look: dict[str, Any] = {
        "ls": "", "marker": "o", "c": QUIET, "ms": 7.5, "mfc": "white", "mew": 1.2,
    }  # fmt: skip
    handles.append(Line2D([], [], label="within class", **look))
    figure.legend(handles=handles, loc="outside upper left", ncols=4, handletextpad=0.4)
    return figure


def _truth_panel(axis: Axes, rows: pd.DataFrame, y: pd.Series) -> None:
    binary = (rows["kind"] == "binary").all()
    main, within, chance = (
        ("auroc", "auroc_within_class", 0.5) if binary else ("spearman", "spearman_within_class", 0)
    )
    places = y[rows["score"]].to_numpy()
    colours = [LABELS[used][0] for used in rows["labels_used"]]
    axis.axvline(chance, color=FAINT, lw=1, zorder=0)
    if f"{main}_low" in rows:
        axis.hlines(
            places, rows[f"{main}_low"], rows[f"{main}_high"], colors=colours, lw=2, alpha=0.45
        )
    axis.scatter(rows[within], places, s=40, facecolors="white", edgecolors=colours, lw=1.1)
    axis.scatter(rows[main], places, s=20, c=colours, zorder=3)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    name = str(rows["truth"].iloc[0]).removeprefix(TRUTH).replace("_", " ")
    found = f"{rows['base_rate'].iloc[0]:.1%} of " if binary else ""
    axis.set_title(f"{textwrap.fill(name, 26)}\n{found}{rows['samples'].max():,} samples")
    axis.set_xlabel("AUROC" if binary else "Spearman correlation")
