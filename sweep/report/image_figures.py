"""The data map, and images of the hardest and easiest samples."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from sweep.aggregation.aggregate import Aggregate
from sweep.aggregation.agreement_table import REFERENCE
from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.report.style import (
    BLUE,
    FAINT,
    PINK,
    QUIET,
    VERMILLION,
    count_of,
    described,
    missing_line,
    wrapped,
)

if TYPE_CHECKING:
    from hardness.data.datasets import Dataset

SIDE = 5  # images per row and per column
_PITCH = 1.36  # distance between rows of images, in image widths
_SHARPEST_PX = 128  # images up to this size are shown without smoothing
_LONGEST_NAME = 13  # characters of a class name under an image
_CORRECTNESS = LinearSegmentedColormap.from_list("correctness", [VERMILLION, PINK, BLUE])


def map_points(samples: pd.DataFrame, configuration_id: str) -> pd.DataFrame:
    """The position of each sample on the data map of a configuration.

    Args:
        samples: ``Aggregate.samples``.
        configuration_id: Id of the configuration.

    Returns:
        ``sample_id``, ``variability``, ``confidence`` and ``correctness``, means over seeds. They
        come from the training step if there was no evaluation. Samples without a value are left
        out; the table is empty if a column is missing.
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
    """The scores whose hardest and easiest images are shown.

    These are ``aum`` of supervised training, ``prototypicality`` of contrastive training, and the
    label-free score that agrees best with the supervised reference.

    Args:
        result: The aggregation.
        best: The configurations to show.

    Returns:
        Tables of ``sample_id``, ``label`` and ``rank`` by score key, for the scores that exist.
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
    """The hardest and the easiest samples; equal ranks are ordered by ascending id.

    Args:
        ranks: Columns ``sample_id`` and ``rank``, 1 for the hardest, NaN without a score. Further
            columns are kept.
        count: Most samples of each kind; at most half of the samples are taken.

    Returns:
        The hardest samples, hardest first, and the easiest, easiest first. Each of the hardest is
        strictly harder than all of the easiest, so both tables are empty if all ranks are equal.

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


def data_map_figure(samples: pd.DataFrame, one: ConfigurationScores) -> Figure | None:
    """Confidence against variability, coloured by correctness."""
    points = map_points(samples, one.configuration.configuration_id)
    if points.empty:
        return None
    figure = Figure((8, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(6, 1), height_ratios=(1, 6))
    axis = figure.add_subplot(grid[1, 0])
    _marginals(figure, grid, axis, points)
    shuffled = points.sample(frac=1, random_state=0)  # otherwise the last class hides the others
    size = float(np.clip(20_000 / len(points), 4, 24))
    marks = axis.scatter(
        shuffled["variability"], shuffled["confidence"], c=shuffled["correctness"],
        s=size, alpha=float(np.clip(5_000 / len(points), 0.3, 0.7)), lw=0, cmap=_CORRECTNESS,
        vmin=0, vmax=max(1.0, points["correctness"].max()),
    )  # fmt: skip
    _map_regions(axis)
    axis.set_xlabel("variability: standard deviation over epochs of the label's probability")
    axis.set_ylabel("confidence: mean over epochs of the label's probability")
    bar = figure.colorbar(marks, ax=axis, location="bottom", shrink=0.6, aspect=40)
    bar.set_label("correctness: number of epochs in which the sample is classified as its label")
    bar.solids.set_alpha(1)  # type: ignore[union-attr]
    figure.suptitle(f"Data map · {described(one)}", x=0.01, ha="left", fontsize=10)
    left_out = len(one.sample_ids) - len(points)
    small_print = [
        "Means over seeds. Curve: the largest standard deviation for each mean.",
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
    # Outside the curve, where no sample can lie.
    for x, y, region, angle in (
        (0.0, 1.05, "easy", 0), (0.525, 0.5, "ambiguous", -90), (0.0, -0.05, "hard", 0),
    ):  # fmt: skip
        axis.text(
            x, y, region, fontsize=12, va="center", rotation=angle, ha="center" if angle else "left"
        )


def images_figure(
    score_key: str, ranks: pd.DataFrame, dataset: "Dataset", of: Sequence[ConfigurationScores]
) -> Figure | None:
    """The hardest and easiest images; ``of`` is the score's configuration, empty for pixels."""
    import torch  # noqa: PLC0415 - a dataset with images has imported it already

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
    """Title of one side, with the number of samples that tie with the last ones."""
    cut = side["rank"].iloc[-1]
    tied, shown = int((ranks == cut).sum()), int((side["rank"] == cut).sum())
    title = f"{len(side)} {kind}, {kind} first"
    return f"{title} ({shown} of {tied:,} that tie, by id)" if tied > shown else title


def _image_grid(
    axis: Axes, images: np.ndarray, names: Sequence[str], sample_ids: pd.Series
) -> None:
    """Draw images ``[count, channels, height, width]`` row by row, each with its caption."""
    height, width = images.shape[2:]
    half_x, half_y = 0.46 * width / max(height, width), 0.46 * height / max(height, width)
    for place, (image, name, sample_id) in enumerate(zip(images, names, sample_ids, strict=True)):
        x, y = place % SIDE, place // SIDE * _PITCH
        axis.imshow(
            image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255,
            # A large image is smoothed: left-out pixels would show patterns that it does not have.
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
