"""Figures of an aggregation: stability, agreement, truth, variance, data map, images at both ends.

A figure whose numbers are missing is not drawn. What a figure shows is chosen by the functions
without an underscore, from tables to tables; the rest is ink.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from hardness.agreement import supervised_reference
from hardness.files import atomic_write
from hardness.metrics import METRICS
from hardness.plan import TRUTH
from hardness.stability import spearman_brown, spearman_pair_mean
from sweep.aggregate import (
    MEMBERS,
    REFERENCE,
    Aggregate,
    ConfigurationScores,
    headline,
)
from sweep.spec import shown_values

if TYPE_CHECKING:
    from hardness.datasets import Dataset

FAMILIES = ("supervised", "loss-based", "unsupervised", "uncertainty")
SIDE = 5  # images a row and a column
_SCORES_OF_A_KIND = 12  # lines of the truth figure for each use of labels
_PITCH = 1.36  # of the lines of images, in widths of one
_MOST_CELLS_WITH_VALUES = 80  # a row
_DARK_BLUE = 0.8  # correlation from which on white is read more easily than ink
_NAMED_FORECASTS, _FAR_OFF = 5, 0.05  # the worst ones, and from where they are named
_SHARPEST_PX = 128  # images up to this size are shown by whole pixels
_LONGEST_NAME = 13  # characters under an image
_DPI = 150

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, VERMILLION, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, QUIET, FAINT = "#222222", "#666666", "#D9D9D9"
LABELS = {
    "none": (GREEN, "no labels"),
    "others": (ORANGE, "labels of other samples"),
    "own": (BLUE, "the sample's own label"),
}
# Colour, line and a shift along the axis, so that intervals stand side by side.
_ARMS = {
    "hardest": (VERMILLION, "-", -0.6),
    "random like hardest": (VERMILLION, ":", -0.2),
    "easiest": (BLUE, "-", 0.2),
    "random like easiest": (BLUE, ":", 0.6),
}
_SHARES = {
    "sample": (BLUE, "the sample"),
    "sample_by_configuration": (ORANGE, "the sample under this configuration"),
    "seed": (FAINT, "the seed"),
}
_DIVERGING = LinearSegmentedColormap.from_list("agreement", [VERMILLION, "#F7F7F7", BLUE])
_CORRECTNESS = LinearSegmentedColormap.from_list("correctness", [VERMILLION, PINK, BLUE])
STYLE: dict[str, Any] = {
    "savefig.dpi": _DPI,
    "figure.dpi": _DPI,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.color": "#BBBBBB",
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a reason or a class name may hold dollar signs
}


def draw(
    result: Aggregate, best: Sequence[str], folder: Path, dataset: "Dataset | None"
) -> list[Path]:
    """Write the figures of an aggregation, each whole or not at all.

    Figures of an earlier aggregation that this one has no numbers for are removed, lest they pass
    for its own.

    Args:
        result: What was found.
        best: Id of each regimen's best configuration, the ones that are shown.
        folder: Where the PNGs go.
        dataset: Source of the images; None leaves the image figures out.

    Returns:
        The files written: ``stability.png``, ``forecast.png``, ``agreement.png``, ``truth.png``,
        ``variance.png``, ``data_map.png`` and one ``images_<score key>.png`` for each of
        ``pictured``, where there is something to show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {one.configuration.configuration_id: one for one in result.scores}
    chosen = [by_id[configuration_id] for configuration_id in best if configuration_id in by_id]
    with style.context(STYLE, after_reset=True):
        written = [save(figure, folder / f) for f, figure in _figures(result, chosen, dataset)]
    names = ("stability", "forecast", "agreement", "truth", "variance", "data_map")
    stale = {folder / f"{name}.png" for name in names}
    for path in (stale | {*folder.glob("images_*.png")}) - {*written}:
        path.unlink(missing_ok=True)
    return written


def draw_pruning(table: pd.DataFrame, folder: Path) -> Path:
    """Write ``prune.png``: accuracy against the share that was kept, a panel for each score.

    Args:
        table: From ``pruning.table``.
        folder: Where it goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with style.context(STYLE, after_reset=True):
        return save(_pruning_figure(table), folder / "prune.png")


# What the figures show


def stability_rows(table: pd.DataFrame, configuration_id: str) -> pd.DataFrame:
    """The metrics of one configuration that get a line of their own, most stable first.

    Args:
        table: ``Aggregate.stability``.
        configuration_id: Whose.

    Returns:
        Rows of the table that stand for their metrics, see ``headline``, indexed by metric, those
        without a value last; ``train`` holds the value of the metric's ``.train`` variant, NaN if
        there is none.
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
    """What Spearman and Brown foretell of means over half the seeds, and what these measure.

    Args:
        table: ``Aggregate.stability``.
        configuration_ids: Whose.

    Returns:
        ``metric``, ``regimen``, ``labels_used``, ``averaged`` (seeds a mean), ``predicted`` and
        ``measured`` (mean Spearman correlation of two disjoint means), for the metrics that get a
        line of their own and have both; below four seeds half of them is one, and no mean.
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


def agreement_matrix(
    table: pd.DataFrame, own: Mapping[str, float]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of pairs as a symmetric matrix, family by family.

    A member of the supervised reference was compared with the reference less the member's
    cluster; that value stands in the reference's row.

    Args:
        table: ``Aggregate.agreement``.
        own: Score set to its agreement with itself, the diagonal.

    Returns:
        Spearman's correlations with score sets as rows and columns, NaN where the table has none,
        and the family of each. The reference comes first; inside a family those that agree best
        with it come first.
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
        result: What was found.

    Returns:
        Score set, by its name in ``Aggregate.agreement``, to the mean Spearman correlation of two
        seeds; 1 for the scores of pixels and of others, which no seed changes.
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
    """The scores that get a line of their own beside the truths, most telling first.

    Args:
        table: ``Aggregate.truth``.
        most: Scores of each use of labels; those that tell any one truth best.

    Returns:
        Rows of the table that measure hardness, without variants; labels none, others, own. A
        score's place is by its largest distance from chance, and the same for all truths.
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


def variance_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The metrics whose variance gets a line of its own, the sample's largest share first.

    Args:
        table: ``Aggregate.variance``.

    Returns:
        Rows of the table that stand for their metrics, see ``headline``, and have a value; by
        regimen in the table's order.
    """
    if table.empty:
        return table
    rows = table.dropna(subset="sample")
    rows = rows[rows["metric"].isin(headline(rows["metric"]))]
    places = {regimen: place for place, regimen in enumerate(rows["regimen"].unique())}
    rows = rows.sort_values("sample", ascending=False, kind="stable")
    return rows.sort_values("regimen", key=lambda mine: mine.map(places), kind="stable")


def map_points(samples: pd.DataFrame, configuration_id: str) -> pd.DataFrame:
    """Where each sample of a configuration lies on the data map.

    Args:
        samples: ``Aggregate.samples``.
        configuration_id: Whose.

    Returns:
        ``sample_id``, ``variability``, ``confidence`` and ``correctness``, means over seeds, of
        the training step where there is no evaluation; without the samples that lack one, and
        empty if a column is missing.
    """
    axes = ("variability", "confidence", "correctness")
    mine = samples[samples["configuration_id"] == configuration_id]
    for phase in ("", ".train"):
        columns = {f"cartography_{c}{phase}": c for c in axes}
        if {*columns} <= {*mine} and mine[[*columns]].notna().any(axis=None):
            points = mine[["sample_id", *columns]].rename(columns=columns)
            return points.dropna().reset_index(drop=True)
    return pd.DataFrame({"sample_id": [], **{c: [] for c in axes}})


def pictured(result: Aggregate, best: Sequence[ConfigurationScores]) -> dict[str, pd.DataFrame]:
    """The scores whose hardest and easiest images are worth a look.

    These are ``aum`` of supervised training, ``prototypicality`` of contrastive training, and the
    label-free score that agrees best with the supervised reference.

    Args:
        result: What was found.
        best: The configurations that are shown.

    Returns:
        Score key to ``sample_id``, ``label`` and ``rank`` of its samples; those that exist.
    """
    regimens = {one.configuration.regimen: one for one in best}
    wanted = [("aum", "supervised"), ("prototypicality", "contrastive")]
    closest = _closest_without_labels(result.agreement)
    wanted += [(key, r) for r in regimens for key in regimens[r].raw if f"{key}.{r}" == closest]
    wanted += [(key, "") for key in result.pixels if key == closest]
    found = {}
    for key, regimen in wanted:
        one = regimens.get(regimen) if regimen else next(iter(best), None)
        if one is not None and f"{key}.rank" in result.samples:
            rows = result.samples["configuration_id"] == one.configuration.configuration_id
            columns = {"sample_id": "sample_id", "label": "label", f"{key}.rank": "rank"}
            score_key = f"{key}.{regimen}" if regimen else key
            found[score_key] = result.samples.loc[rows, [*columns]].rename(columns=columns)
    return found


def extremes(ranks: pd.DataFrame, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The hardest and the easiest samples, equal ranks by ascending id.

    Args:
        ranks: ``sample_id`` and ``rank``, 1 the hardest; NaN for none. Further columns stay.
        count: At most this many of each, and no more than half of the samples.

    Returns:
        The hardest, hardest first, and the easiest, easiest first. Every one of the hardest is
        strictly harder than all of the easiest, so that both are empty where all tie.

    Example:
        >>> ranks = pd.DataFrame({"sample_id": [7, 3, 5, 1], "rank": [1.0, 3.0, 3.0, 3.0]})
        >>> hardest, easiest = extremes(ranks, 2)
        >>> hardest["sample_id"].tolist(), easiest["sample_id"].tolist()
        ([7], [1, 3])
    """
    known = ranks.dropna(subset="rank")
    count = min(count, len(known) // 2)
    hardest = known.sort_values(["rank", "sample_id"]).head(count)
    easiest = known.sort_values(["rank", "sample_id"], ascending=[False, True]).head(count)
    hardest = hardest[hardest["rank"] < easiest["rank"].min()]
    return hardest, easiest if len(hardest) else easiest.head(0)


def _closest_without_labels(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    free = table["right"].str.startswith(REFERENCE) & (table["labels_used_left"] == "none")
    rows = table[free & (table["spearman"] > 0)].sort_values(["spearman", "left"])
    return str(rows["left"].iloc[-1]) if len(rows) else ""


# How they show it


def _figures(
    result: Aggregate, best: Sequence[ConfigurationScores], dataset: "Dataset | None"
) -> Iterator[tuple[str, Figure]]:
    if figure := stability_figure(result.stability, best):
        yield "stability.png", figure
    ids = [one.configuration.configuration_id for one in best]
    if figure := forecast_figure(forecast_rows(result.stability, ids)):
        yield "forecast.png", figure
    matrix, families = agreement_matrix(result.agreement, own_agreement(result))
    if figure := agreement_figure(matrix, families, best):
        yield "agreement.png", figure
    if figure := truth_figure(result.truth):
        yield "truth.png", figure
    if figure := variance_figure(variance_rows(result.variance)):
        yield "variance.png", figure
    supervised = [one for one in best if one.configuration.regimen == "supervised"]
    if supervised and (figure := data_map_figure(result.samples, supervised[0])):
        yield "data_map.png", figure
    if dataset is None:
        return
    for score_key, ranks in pictured(result, best).items():
        mine = [one for one in best if score_key.endswith(f".{one.configuration.regimen}")]
        if figure := images_figure(score_key, ranks, dataset, mine):
            yield f"images_{score_key}.png", figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all."""
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png")
    return path


def described(one: ConfigurationScores) -> str:
    """A configuration in a title: regimen, searched values, seeds and samples."""
    samples = f"{len(one.sample_ids):,} samples"
    parts = (
        one.configuration.regimen,
        shown_values(one.parameters),
        count_of(len(one.seeds), "seed"),
        samples,
    )
    return textwrap.fill(" · ".join(filter(None, parts)), 85)


def count_of(number: int, noun: str) -> str:
    """A number and its noun, such as ``2 seeds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def missing_line(one: ConfigurationScores) -> str:
    """Small print that names them, if there are any."""
    return f"Missing: {one.configuration.regimen} {one.missing_seeds}" if one.missing else ""


def wrapped(paragraphs: Sequence[str], width_in: float) -> str:
    """Small print broken into lines, a paragraph that runs over three of them cut short."""
    characters = int(width_in * 15)  # of 8 points
    lines = [
        textwrap.fill(text, characters, max_lines=3, placeholder=" …")
        for text in paragraphs
        if text
    ]
    return "\n".join(lines)


def stability_figure(table: pd.DataFrame, best: Sequence[ConfigurationScores]) -> Figure | None:
    """Agreement of two seeds, a panel for each configuration."""
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
    # A correlation ends at 1; its jackknife interval does not.
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


def foot(axis: Axes, paragraphs: Sequence[str], width_in: float, *, below: float) -> None:
    """Small print under an axis, that many points below it."""
    text = wrapped(paragraphs, width_in)
    if text:
        axis.annotate(
            text, (0, 0), xycoords="axes fraction", xytext=(0, -below), fontsize=8,
            textcoords="offset points", va="top", color=QUIET, annotation_clip=False,
        )  # fmt: skip


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
    """Measured against foretold reliability, from ``forecast_rows``."""
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
    axis.set_xlabel("foretold from two single seeds by Spearman and Brown")
    axis.set_ylabel("measured on means over disjoint seeds")
    axis.set_title(f"Is a mean over {several} seeds as reliable as foretold?")
    axis.legend(loc="upper left", handletextpad=0.2)
    below = f"Below the line the forecast is too good. Mean distance {off.abs().mean():.3f}."
    foot(axis, [below], 6.0, below=32)
    return figure


def _far_off(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The forecasts that are furthest off, by name; of points that lie together one."""
    off = (rows["measured"] - rows["predicted"]).abs()
    points = rows.loc[off[off >= _FAR_OFF].sort_values(ascending=False).index]
    named: dict[str, tuple[float, float]] = {}
    for _, row in points.iterrows():
        point = float(row["predicted"]), float(row["measured"])
        if all(math.dist(point, other) > _FAR_OFF for other in named.values()):
            named[f"{row['metric']}.{row['regimen']}"] = point
    return dict([*named.items()][:_NAMED_FORECASTS])


def agreement_figure(
    matrix: pd.DataFrame, families: Mapping[str, str], best: Sequence[ConfigurationScores]
) -> Figure | None:
    """The matrix of ``agreement_matrix``, with missing seeds in small print."""
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
    for place in np.flatnonzero(np.isfinite(values.diagonal())):  # of another kind than the rest
        corner = place - 0.42, place - 0.42
        axis.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, lw=0.9, ec=INK, zorder=3))
    axis.set_title("Do metrics agree on which samples are hard?", pad=10)
    foot(axis, [_agreement_caption(matrix), *map(missing_line, best)], width_in - names_in, below=6)
    bar = figure.colorbar(mesh, ax=axis, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def _cell_values(axis: Axes, values: np.ndarray) -> None:
    """Numbers in the cells: the outlines of each one that occurs, stamped wherever it stands.

    A heatmap has thousands of cells but two hundred numbers, and a text each takes ten times as
    long as all the rest.
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


def signed(value: float) -> str:
    """Two decimals, a real minus, and no negative zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # noqa: RUF001


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
        sentences.append("Metrics that make up the supervised reference meet the rest of it.")
    if matrix.isna().any(axis=None):
        sentences.append("Hatched: undefined.")
    return " ".join(sentences)


def truth_figure(table: pd.DataFrame) -> Figure | None:
    """Scores against each truth, a panel for each truth."""
    rows = truth_rows(table, _SCORES_OF_A_KIND)
    if rows.empty:
        return None
    scores = rows.drop_duplicates("score").set_index("score")["labels_used"]
    names = [*dict.fromkeys(rows["truth"])]
    # As many scores of each use of labels stand together, a gap apart from the next.
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


def variance_figure(rows: pd.DataFrame) -> Figure | None:
    """Shares of the variance, a panel for each regimen, from ``variance_rows``."""
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


def _pruning_figure(table: pd.DataFrame) -> Figure:
    names = [by for by in dict.fromkeys(table["by"]) if by]
    figure = Figure((max(3.3 * len(names), 5.0), 3.9), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    whole = table[table["by"] == ""].iloc[0]
    lines = {}
    for axis, name in zip(axes, names, strict=True):
        for arm, mine in table[table["by"] == name].groupby("arm", sort=False):
            colour, dashes, offset = _ARMS[str(arm)]
            x = 100 * mine["keep"] + offset
            errors = np.abs(mine[["accuracy_low", "accuracy_high"]].sub(mine["accuracy"], axis=0))
            lines[str(arm)] = axis.errorbar(
                x, mine["accuracy"], yerr=errors.to_numpy().T, c=colour, ls=dashes, marker="o",
                ms=5, mfc=colour if dashes == "-" else "white", lw=1.4, elinewidth=1.2,
            )  # fmt: skip
        lines["all"] = axis.axhline(whole["accuracy"], color=QUIET, lw=1)
        axis.axhspan(whole["accuracy_low"], whole["accuracy_high"], color=FAINT, alpha=0.6, lw=0)
        axis.set_xticks(100 * table.loc[table["by"] == name, "keep"].unique())
        axis.set_xlabel("kept, %")
        axis.set_title(name)
    axes[0].set_ylabel("validation accuracy")
    columns = len(lines) if len(names) > 1 else 3  # as many as are as wide as the panels
    figure.legend(
        lines.values(), [*lines], loc="outside upper left", ncols=columns, handletextpad=0.6
    )
    return figure


def data_map_figure(samples: pd.DataFrame, one: ConfigurationScores) -> Figure | None:
    """Confidence against variability, coloured by correctness."""
    points = map_points(samples, one.configuration.configuration_id)
    if points.empty:
        return None
    figure = Figure((8, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(6, 1), height_ratios=(1, 6))
    axis = figure.add_subplot(grid[1, 0])
    _marginals(figure, grid, axis, points)
    shuffled = points.sample(frac=1, random_state=0)  # else the last class covers the others
    size = float(np.clip(20_000 / len(points), 4, 24))
    marks = axis.scatter(
        shuffled["variability"], shuffled["confidence"], c=shuffled["correctness"],
        s=size, alpha=float(np.clip(5_000 / len(points), 0.3, 0.7)), lw=0, cmap=_CORRECTNESS,
        vmin=0, vmax=max(1.0, points["correctness"].max()),
    )  # fmt: skip
    _map_regions(axis)
    axis.set_xlabel("variability: spread over epochs of the label's probability")
    axis.set_ylabel("confidence: mean over epochs of the label's probability")
    bar = figure.colorbar(marks, ax=axis, location="bottom", shrink=0.6, aspect=40)
    bar.set_label("epochs in which the sample is classified as its label")
    bar.solids.set_alpha(1)  # type: ignore[union-attr]
    figure.suptitle(f"Data map · {described(one)}", x=0.01, ha="left", fontsize=10)
    left_out = len(one.sample_ids) - len(points)
    small_print = [
        "Means over seeds. Curve: the largest spread that a mean allows.",
        f"{left_out} samples without a value are left out." if left_out else "",
        missing_line(one),
    ]
    figure.supxlabel(wrapped(small_print, 7), x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def _marginals(figure: Figure, grid: Any, axis: Axes, points: pd.DataFrame) -> None:
    look: dict[str, Any] = {"bins": 50, "color": "#B0B0B0"}
    top = figure.add_subplot(grid[0, 0], sharex=axis)
    top.hist(points["variability"], range=(0, 0.5), **look)
    right = figure.add_subplot(grid[1, 1], sharey=axis)
    right.hist(points["confidence"], range=(0, 1), orientation="horizontal", **look)
    for side in (top, right):
        side.axis("off")


def _map_regions(axis: Axes) -> None:
    confidence = np.linspace(0, 1, 200)
    axis.plot(np.sqrt(confidence * (1 - confidence)), confidence, color=FAINT, lw=1, zorder=0)
    axis.set(xlim=(-0.01, 0.55), ylim=(-0.09, 1.09))
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.spines["left"].set_bounds(0, 1)
    axis.spines["bottom"].set_bounds(0, 0.5)
    # Beyond the curve, where no sample can be.
    for x, y, region, angle in (
        (0.0, 1.05, "easy", 0), (0.525, 0.5, "ambiguous", -90), (0.0, -0.05, "hard", 0),
    ):  # fmt: skip
        axis.text(
            x, y, region, fontsize=12, va="center", rotation=angle, ha="center" if angle else "left"
        )


def images_figure(
    score_key: str, ranks: pd.DataFrame, dataset: "Dataset", of: Sequence[ConfigurationScores]
) -> Figure | None:
    """Images at both ends of a score, which is of one configuration, or of none for pixels."""
    import torch  # noqa: PLC0415 - where there are images, it is loaded already

    sides = extremes(ranks, SIDE * SIDE)
    positions = pd.Index(dataset.train.sample_ids.numpy())
    rows = [positions.get_indexer(side["sample_id"]) for side in sides]
    if not len(rows[0]) or min(map(np.min, rows)) < 0:
        return None
    lines = math.ceil(len(sides[1]) / SIDE)
    figure = Figure((10.4, 1.32 * lines + 1.1), layout="constrained")
    title = [score_key, *(f"mean over {count_of(len(one.seeds), 'seed')}" for one in of)]
    title += [f"{ranks['rank'].count():,} samples"]
    figure.suptitle(" · ".join(title) + "\n", x=0.01, ha="left", fontsize=10, linespacing=0.7)
    for axis, side, taken, kind in zip(
        figure.subplots(1, 2), sides, rows, ("hardest", "easiest"), strict=True
    ):
        axis.set_title(_side_title(side, ranks["rank"], kind))
        names = [dataset.classes[label] for label in side["label"]]
        images = dataset.train.read(torch.from_numpy(taken)).numpy()
        _image_grid(axis, images, names, side["sample_id"])
        axis.set(xlim=(-0.5, SIDE - 0.5), ylim=(lines * _PITCH - 0.5, -0.5))
    small_print = ["Under each image: given label, sample id.", *map(missing_line, of)]
    figure.supxlabel(wrapped(small_print, 10), x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def _side_title(side: pd.DataFrame, ranks: pd.Series, kind: str) -> str:
    """Which samples, and of how many equals the last ones were taken."""
    cut = side["rank"].iloc[-1]
    tied, shown = int((ranks == cut).sum()), int((side["rank"] == cut).sum())
    title = f"{len(side)} {kind}, {kind} first"
    return f"{title} ({shown} of {tied:,} that tie, by id)" if tied > shown else title


def _image_grid(
    axis: Axes, images: np.ndarray, names: Sequence[str], sample_ids: pd.Series
) -> None:
    """Images ``[count, channels, height, width]`` in reading order, each with its caption."""
    height, width = images.shape[2:]
    half_x, half_y = 0.46 * width / max(height, width), 0.46 * height / max(height, width)
    for place, (image, name, sample_id) in enumerate(zip(images, names, sample_ids, strict=True)):
        x, y = place % SIDE, place // SIDE * _PITCH
        axis.imshow(
            image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255,
            # Dropping pixels would draw patterns that the image does not have.
            interpolation="nearest" if max(height, width) <= _SHARPEST_PX else "antialiased",
            extent=(x - half_x, x + half_x, y + half_y, y - half_y),
        )  # fmt: skip
        caption: dict[str, Any] = {
            "xycoords": "data",
            "textcoords": "offset points",
            "ha": "center",
            "va": "top",
        }
        shortened = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        axis.annotate(shortened, (x, y + half_y), (0, -2), fontsize=8, **caption)
        axis.annotate(
            f"#{sample_id}", (x, y + half_y), (0, -12), fontsize=8, color=QUIET, **caption
        )
    axis.set_axis_off()
