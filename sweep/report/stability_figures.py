"""Figures of stability, of forecasts and of variance shares."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from hardness.comparison.reliability import spearman_brown
from sweep.aggregation.collected_scores import ConfigurationScores, headline
from sweep.report.style import (
    BLUE,
    FAINT,
    LABELS,
    ORANGE,
    QUIET,
    described,
    foot,
    missing_line,
    signed,
)

_NAMED_FORECASTS, _FAR_OFF = 5, 0.05  # most names of bad forecasts, and the error that is bad
_SHARES = {
    "sample": (BLUE, "the sample"),
    "sample_by_configuration": (ORANGE, "the sample under this configuration"),
    "seed": (FAINT, "the seed"),
}


def stability_rows(table: pd.DataFrame, configuration_id: str) -> pd.DataFrame:
    """The rows of the stability figure for one configuration, most stable first.

    Args:
        table: ``Aggregate.stability``.
        configuration_id: Id of the configuration.

    Returns:
        Rows of the table that ``headline`` keeps, indexed by metric; those without a value come
        last. ``train`` is the value of the metric's ``.train`` variant, NaN if there is none.
    """
    if table.empty:
        return pd.DataFrame({"spearman_pair_mean": [], "train": []})
    mine = table[table["configuration_id"] == configuration_id].set_index("metric")
    rows = mine.loc[headline(mine.index)]
    train = mine["spearman_pair_mean"].reindex(rows.index + ".train")
    return rows.assign(train=train.to_numpy()).sort_values(
        "spearman_pair_mean", ascending=False, kind="stable"
    )


def forecast_rows(table: pd.DataFrame, configuration_ids: Sequence[str]) -> pd.DataFrame:
    """Reliability of means over half the seeds: the Spearman-Brown forecast, and as measured.

    Args:
        table: ``Aggregate.stability``.
        configuration_ids: Ids of the configurations.

    Returns:
        ``metric``, ``regimen``, ``labels_used``, ``averaged`` (seeds per mean), ``predicted`` and
        ``measured`` (mean Spearman correlation of two disjoint means), for the metrics that
        ``headline`` keeps. Configurations with fewer than four seeds are left out, because half of
        the seeds would be a single one.
    """
    if table.empty:
        return table
    mine = table[table["configuration_id"].isin([*configuration_ids])]
    mine = mine[mine["metric"].isin(headline(mine["metric"])) & (mine["runs"] >= 4)]  # noqa: PLR2004
    averaged = mine["runs"].astype(int) // 2
    pairs = zip(mine["spearman_pair_mean"], averaged, strict=True)
    predicted = [float(spearman_brown(one, several)) for one, several in pairs]
    kept = mine[["metric", "regimen", "labels_used"]]
    measured = mine["disjoint_halves"].astype(float)
    return kept.assign(averaged=averaged, predicted=predicted, measured=measured).dropna()


def variance_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the variance figure; the largest share of the sample comes first.

    Args:
        table: ``Aggregate.variance``.

    Returns:
        Rows of the table that ``headline`` keeps and that have a value, grouped by regimen.
    """
    if table.empty:
        return table
    rows = table.dropna(subset="sample")
    rows = rows[rows["metric"].isin(headline(rows["metric"]))]
    places = {regimen: place for place, regimen in enumerate(rows["regimen"].unique())}
    rows = rows.sort_values("sample", ascending=False, kind="stable")
    return rows.sort_values("regimen", key=lambda mine: mine.map(places), kind="stable")


def stability_figure(table: pd.DataFrame, best: Sequence[ConfigurationScores]) -> Figure | None:
    """Agreement of two seeds, one panel per configuration."""
    found = [(one, stability_rows(table, one.configuration.configuration_id)) for one in best]
    panels = [(one, rows) for one, rows in found if rows["spearman_pair_mean"].notna().any()]
    if not panels:
        return None
    lines = [rows["spearman_pair_mean"].count() + 0.2 for _, rows in panels]
    height_in = 0.22 * sum(lines) + 1.3 * len(panels) + 0.5
    figure = Figure(figsize=(8.5, height_in), layout="constrained")
    axes = figure.subplots(len(panels), height_ratios=lines, squeeze=False)[:, 0]
    shown = pd.concat([rows[rows["spearman_pair_mean"].notna()] for _, rows in panels])
    values = ["spearman_pair_mean", "spearman_pair_mean_low", "spearman_within_class_pair_mean"]
    low = max(-1.0, min(0.0, shown[[*values, "train"]].min().min()))
    for axis, (one, rows) in zip(axes, panels, strict=True):
        axis.set_xlim(low - 0.02, 1.02)
        _stability_panel(axis, one, rows)
    axes[0].annotate(
        "0.9", (0.9, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
        textcoords="offset points", ha="center", va="bottom", fontsize=8, color=QUIET,
    )  # fmt: skip
    _stability_legend(figure, shown)
    return figure


def _stability_panel(axis: Axes, one: ConfigurationScores, rows: pd.DataFrame) -> None:
    defined = rows[rows["spearman_pair_mean"].notna()]
    y = np.arange(len(defined))
    colours = [LABELS[used][0] for used in defined["labels_used"]]
    value = defined["spearman_pair_mean"]
    # A jackknife interval may go beyond 1, a correlation cannot.
    low, high = (defined[f"spearman_pair_mean_{end}"].clip(-1, 1) for end in ("low", "high"))
    axis.axvline(0.9, color=FAINT, lw=1, zorder=0)
    axis.axvline(0, color=FAINT, lw=1, zorder=0)
    axis.hlines(y, low, high, colors=colours, lw=2, alpha=0.45)
    axis.scatter(defined["train"], y, s=26, c=colours, marker="D", alpha=0.35, lw=0)
    within = defined["spearman_within_class_pair_mean"]
    axis.scatter(within, y, s=56, facecolors="white", edgecolors=colours, lw=1.2, zorder=3)
    axis.scatter(value, y, s=24, c=colours, zorder=4)
    for place, number in enumerate(value):
        axis.text(
            1.012, place, signed(number), transform=axis.get_yaxis_transform(),
            va="center", fontsize=8, color=QUIET,
        )  # fmt: skip
    axis.set_yticks(y, defined.index)
    axis.set_ylim(len(defined) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_title(described(one))
    undefined = ", ".join(rows.index[rows["spearman_pair_mean"].isna()])
    small_print = [
        f"Undefined: {undefined}" if undefined else "",
        "No interval: fewer than 4 seeds" if low.isna().all() else "",
        missing_line(one),
    ]
    axis.set_xlabel("Spearman correlation of two seeds")
    foot(axis, small_print, 6.0, below=32)


def _stability_legend(figure: Figure, shown: pd.DataFrame) -> None:
    def mark(colour: str, label: str, **look: Any) -> Line2D:
        look = {"ls": "", "marker": "o", "ms": 5, "c": colour, **look}
        return Line2D([], [], label=label, **look)

    used = [LABELS[kind] for kind in LABELS if kind in {*shown["labels_used"]}]
    handles = [mark(colour, f"uses {text}") for colour, text in used]
    interval = shown["spearman_pair_mean_low"].notna().any()
    handles.append(
        mark(QUIET, "all samples, 95 % interval", ls="-", lw=2)
        if interval
        else mark(QUIET, "all samples")
    )
    if shown["spearman_within_class_pair_mean"].notna().any():
        handles.append(mark(QUIET, "within class", ms=7.5, mfc="white", mew=1.2))
    if shown["train"].notna().any():
        handles.append(mark(QUIET, "of the training step", marker="D", alpha=0.35, mew=0))
    figure.legend(handles=handles, loc="outside upper left", ncols=3, handletextpad=0.4)


def forecast_figure(rows: pd.DataFrame) -> Figure | None:
    """Measured against predicted reliability, from ``forecast_rows``."""
    if rows.empty:
        return None
    figure = Figure(figsize=(6.5, 6.0), layout="constrained")
    axis = figure.subplots()
    ends = max(-1.0, rows[["predicted", "measured"]].min().min() - 0.1), 1.02
    axis.plot(ends, ends, color=FAINT, lw=1, zorder=0)
    for used, (colour, text) in LABELS.items():
        mine = rows[rows["labels_used"] == used]
        if len(mine):
            axis.scatter(
                mine["predicted"], mine["measured"], s=26, c=colour, alpha=0.75, lw=0,
                label=f"uses {text}",
            )  # fmt: skip
    off = rows["measured"] - rows["predicted"]
    for score, (x, y) in _far_off(rows).items():
        above = y > x
        axis.annotate(
            score, (x, y), xytext=(-5, 4) if above else (5, -11), textcoords="offset points",
            fontsize=8, color=QUIET, ha="right" if above else "left",
        )  # fmt: skip
    axis.set(xlim=ends, ylim=ends, aspect="equal")
    several = ", ".join(map(str, sorted({*rows["averaged"]})))
    axis.set_xlabel("predicted from two single seeds by the Spearman-Brown formula")
    axis.set_ylabel("measured on means over disjoint seeds")
    axis.set_title(f"Is a mean over {several} seeds as reliable as predicted?")
    axis.legend(loc="upper left", handletextpad=0.2)
    below = f"Below the line the forecast is too high. Mean distance {off.abs().mean():.3f}."
    foot(axis, [below], 6.0, below=32)
    return figure


def _far_off(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Points of the worst forecasts, by name; only one of several close points."""
    off = (rows["measured"] - rows["predicted"]).abs()
    points = rows.loc[off[off >= _FAR_OFF].sort_values(ascending=False).index]
    named: dict[str, tuple[float, float]] = {}
    for _, row in points.iterrows():
        point = float(row["predicted"]), float(row["measured"])
        if all(math.dist(point, other) > _FAR_OFF for other in named.values()):
            named[f"{row['metric']}.{row['regimen']}"] = point
    return dict([*named.items()][:_NAMED_FORECASTS])


def variance_figure(rows: pd.DataFrame) -> Figure | None:
    """Shares of the variance from ``variance_rows``, one panel per regimen."""
    if rows.empty:
        return None
    panels = [*rows.groupby("regimen", sort=False)]
    lines = [len(mine) + 0.2 for _, mine in panels]
    figure = Figure((7.5, 0.22 * sum(lines) + 0.85 * len(panels) + 0.5), layout="constrained")
    axes = figure.subplots(len(panels), height_ratios=lines, squeeze=False)[:, 0]
    for axis, (regimen, mine) in zip(axes, panels, strict=True):
        y = np.arange(len(mine))
        left = np.zeros(len(mine))
        for share, (colour, _) in _SHARES.items():
            axis.barh(y, mine[share], left=left, height=0.7, color=colour, lw=0)
            left = left + mine[share].to_numpy()
        axis.set_yticks(y, mine["metric"])
        axis.set_ylim(len(mine) - 0.4, -0.6)
        axis.set_xlim(0, 1)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        of = f"{mine['configurations'].max()} configurations of {mine['runs'].max()} seeds"
        axis.set_title(f"{regimen} · {of} · {mine['samples'].max():,} samples")
    axes[-1].set_xlabel("share of the variance of normalised ranks")
    handles = [Rectangle((0, 0), 1, 1, color=colour, label=of) for colour, of in _SHARES.values()]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure
