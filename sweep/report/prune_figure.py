"""The table and the figure of a pruning."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hardness.planting.options import TRUTH
from sweep.report.figures import save
from sweep.report.style import BLUE, FAINT, QUIET, STYLE, VERMILLION
from sweep.report.terminal import console, interval, records

# Colour, line style, and a shift along the axis that keeps intervals apart.
_ARMS = {
    "hardest": (VERMILLION, "-", -0.6),
    "random like hardest": (VERMILLION, ":", -0.2),
    "easiest": (BLUE, "-", 0.2),
    "random like easiest": (BLUE, ":", 0.6),
}


def draw_pruning(table: pd.DataFrame, folder: Path) -> Path:
    """Write ``prune.png``: accuracy against the share that was kept, one panel per score.

    Args:
        table: Result of ``retraining.table``.
        folder: Folder for the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with style.context(STYLE, after_reset=True):
        return save(_pruning_figure(table), folder / "prune.png")


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
    columns = len(lines) if len(names) > 1 else 3  # fits the width of the panels
    figure.legend(
        lines.values(), [*lines], loc="outside upper left", ncols=columns, handletextpad=0.6
    )
    return figure


def print_pruning(table: pd.DataFrame, name: str) -> None:
    """Print the accuracy of every arm, and its difference from the random part, with intervals.

    Args:
        table: Result of ``retraining.table``. One table per score is printed.
        name: Name of the sweep with the scores.
    """
    shares = [column for column in map(str, table) if column.startswith("share_")]
    titles = [share.removeprefix("share_").removeprefix(TRUTH) for share in shares]
    out = console()
    for by in [by for by in dict.fromkeys(table["by"]) if by]:
        view = Table(
            box=SIMPLE_HEAD, title=f"Trained on parts of {name} by {by}", title_justify="left",
            caption_justify="left",
        )  # fmt: skip
        view.add_column("keep", justify="right", no_wrap=True)
        view.add_column("arm", no_wrap=True)
        for column in ("samples", "seeds", "accuracy", "less random"):
            view.add_column(column, justify="right", no_wrap=True)
        for title in titles:
            view.add_column(title, justify="right", overflow="fold")
        for row in records(table[table["by"].isin(["", by])]):
            less, low, high = (
                row.get(f"difference{end}", math.nan) for end in ("", "_low", "_high")
            )
            view.add_row(
                f"{row['keep']:.3g}",
                row["arm"],
                f"{row['samples']:,}",
                str(row["seeds"]),
                interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"], digits=3),
                interval(less, low, high, digits=3),
                *(f"{row[share]:.1%}" for share in shares),
            )
        out.print(view)
    out.print(
        "Validation accuracy after the last epoch, mean over seeds; less random: than the random\n"
        "part of the same class counts, paired by seed. Intervals: 95 %, of t over seeds.\n"
        "Every arm takes as many steps as all samples would, to the nearest epoch.",
        style="italic",
    )
    for row in records(table[table["missing_seeds"] != ""]):
        arm = f"{row['arm']} {row['by']}".rstrip()
        out.print(f"missing: {arm} {row['missing_seeds']}", style="red", markup=False)
