"""Tables of a sweep on a terminal, or as JSON or CSV."""

import math
import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hardness.metrics.registry import METRICS
from hardness.training import REGIMENS
from sweep.aggregation.aggregate import Aggregate
from sweep.aggregation.agreement_table import REFERENCE, detailed
from sweep.aggregation.collected_scores import headline

Format = Literal["table", "json", "csv"]
_PLAIN_WIDTH = 160
_SIDES = ("left", "right")
# Statistics of binary and of graded truths, with their headings on a terminal.
_BINARY = {
    "auroc": "AUROC",
    "auroc_within_class": "within class",
    "average_precision": "AP",
    "lift": "lift",
    "precision_at_pi": "at pi",
}
_GRADED = {
    "spearman": "Spearman",
    "spearman_within_class": "within class",
    "partial_spearman": "partial",
}
# Most rows of a table on a terminal; its file has all rows.
_ROWS = 20


def console() -> Console:
    """Standard output; outside a terminal with a fixed width, so that no cell is cut."""
    found = Console()
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH)


def emit(table: pd.DataFrame, form: Format) -> None:
    """Print a table as JSON or CSV, for programs."""
    if form == "json":
        sys.stdout.write(table.to_json(orient="records", indent=1) + "\n")
    else:
        table.to_csv(sys.stdout, index=False)


def print_stability(result: Aggregate, best: Sequence[str]) -> None:
    """Print stability across seeds for the best configuration of each regimen.

    Columns: Spearman of two seeds with its interval, the same within class, Kendall's W, Jaccard
    of the hardest 10 %, reliability of the mean over the seeds, and seeds needed for 0.9 of it.
    """
    out = console()
    for configuration_id in best:
        mine = result.stability[result.stability["configuration_id"] == configuration_id]
        if mine.empty:
            continue
        first = mine.iloc[0]
        title = f"Stability across {first.runs} seeds · {first.regimen} {first.parameters}"
        numbers = ("two seeds", "within class", "Kendall W", "top 10 %", "mean", "for 0.9")
        table = _view(title, ("metric", "labels"), numbers)
        plain = mine[mine["metric"].isin(headline(mine["metric"]))]
        plain = plain.sort_values("spearman_pair_mean", ascending=False)
        for row in records(plain.head(_ROWS)):
            table.add_row(
                _named(row, "metric", "approximated"),
                row["labels_used"],
                interval(row["spearman_pair_mean"], row["spearman_pair_mean_low"],
                          row["spearman_pair_mean_high"]),
                _number(row["spearman_within_class_pair_mean"]),
                _number(row["kendall_w"]),
                _number(row["topk_jaccard_10"]),
                _number(row["reliability"]),
                _count(row["seeds_for_r90"]),
            )  # fmt: skip
        if len(plain) > _ROWS:
            table.add_row(*_more(len(plain) - _ROWS, len(table.columns), "stability.csv"))
        table.caption = (
            "two seeds: mean Spearman of two runs, 95 % jackknife interval. top 10 %: Jaccard of\n"
            f"the hardest. mean: reliability of the mean of {first.runs} seeds. for 0.9: seeds to\n"
            "average for a reliability of 0.9. labels: whose labels the score has seen."
            f"{_explained(mine)}"
        )
        out.print(table)
        if first.missing_seeds:
            out.print(f"missing: {first.missing_seeds}", style="red", markup=False)


def print_agreement(table: pd.DataFrame, title: str, *, reference: bool = True) -> None:
    """Print agreement with the supervised reference, or of every pair.

    Columns: Spearman on disjoint runs with its interval, the same within class, Kendall's tau-b,
    overlap of the hardest 10 %, and Spearman corrected for the seed noise of both sides, pooled
    and within class.
    """
    out = console()
    if table.empty:
        return
    rows = _short_reference(table.loc[detailed(table)] if reference else table)
    most, left_out = _ROWS if reference else len(rows), 0
    if reference and REFERENCE not in {*rows["right"]}:
        reference, title = False, "Agreement of every two metrics"
        left_out = len(table) - len(rows)
    shared = "" if reference else _shared_ending([*rows["left"], *rows["right"]])
    if shared:
        title = f"{title} · {shared[1:]}"
        rows = rows.assign(**{side: rows[side].str.removesuffix(shared) for side in _SIDES})
    labels = reference or len({*rows["labels_used_left"]}) > 1
    words = ("metric", *(() if reference else ("with",)), *(("labels",) if labels else ()))
    numbers = ("Spearman", "within class", "tau-b", "top 10 %", "r / noise", "within")
    shown = _view(title, words, numbers)
    order = ["labels_used_left", "spearman"] if reference else ["spearman"]
    rows = rows.sort_values(order, ascending=[column != "spearman" for column in order])
    for _, group in rows.groupby("labels_used_left", sort=False) if reference else [("", rows)]:
        for row in records(group.head(most)):
            shown.add_row(
                _named(row, "left", "approximated_left"),
                *(() if reference else (_named(row, "right", "approximated_right"),)),
                *((row["labels_used_left"],) if labels else ()),
                interval(row["spearman"], row["spearman_low"], row["spearman_high"]),
                _number(row["spearman_within_class"]),
                _number(row["kendall_tau_b"]),
                _number(row["topk_overlap_10"]),
                _number(row["disattenuated"]),
                _number(row["disattenuated_within_class"]),
            )  # fmt: skip
        if more := left_out + max(len(group) - most, 0):
            shown.add_row(*_more(more, len(shown.columns), "agreement.csv"))
    shown.caption = (
        "Means over seeds, never of the same runs on both sides. Spearman: 95 % bootstrap over\n"
        "samples. top 10 %: overlap of the hardest. r / noise: Spearman corrected for the seed\n"
        "noise of both sides; within: the same within class. A metric that is part of the\n"
        "reference is compared with the other part only."
        f"{_explained(rows)}"
    )
    out.print(shown)


def _short_reference(table: pd.DataFrame) -> pd.DataFrame:
    """Show every part of the reference under one name; the caption explains it."""
    names = table["right"]
    return table.assign(right=names.where(~names.str.startswith(REFERENCE), REFERENCE))


def print_pairwise(table: pd.DataFrame) -> None:
    """Print rank-biased overlap of every pair with its interval, and partial correlations."""
    if table.empty:
        return
    title = "Agreement on the hardest samples, and beyond the image's entropy"
    numbers = ("RBO", "ties at random", "extrapolated", "partial")
    shown = _view(title, ("metric", "with"), numbers)
    rows = _short_reference(table.sort_values("rbo_random_ties", ascending=False))
    for row in records(rows):
        shown.add_row(
            row["left"],
            row["right"],
            interval(row["rbo"], row["rbo_low"], row["rbo_high"]),
            _number(row["rbo_random_ties"]),
            _number(row["rbo_extrapolated"]),
            _number(row["partial_spearman"]),
        )
    shown.caption = (
        "RBO: rank-biased overlap, 85 % of its weight on the hardest 2 %, ties by id; also with\n"
        "ties in random orders, and extrapolated; 95 % by subsamples of half the samples.\n"
        "partial: Spearman with image_entropy held fixed, if an aggregation has scored it."
    )
    console().print(shown)


def print_truth(table: pd.DataFrame, *, every: bool = False) -> None:
    """Print how well metrics find each truth: one table per truth, grouped by use of labels.

    Columns for a binary truth: AUROC with its interval, the same within class, average precision,
    its lift over the base rate, and precision among as many samples as there are positives. For a
    graded truth: Spearman, also within class and with the control held fixed. Then the spread over
    seeds.

    Args:
        table: ``Aggregate.truth``.
        every: Whether all rows are printed. If false, the best ones that measure hardness.
    """
    out = console()
    if table.empty:
        return
    for truth, mine in table.groupby("truth", sort=False):
        first = mine.iloc[0]
        binary = first["kind"] == "binary"
        columns, shown = (_BINARY if binary else _GRADED), mine
        if not every:
            own = [key for key in mine["metric"] if key in METRICS]
            kept = mine["metric"].isin(headline(own)) | ~mine["metric"].isin(own)
            shown = mine[kept & (mine["measures"] == "hardness")]
        rate = f" · {first['base_rate']:.1%} of {first['samples']} samples" if binary else ""
        numbers = (*columns.values(), "over seeds")
        view = _view(f"Truth {truth}{rate}", ("metric", "labels"), numbers)
        main = next(iter(columns))
        shown = shown.sort_values(["labels_used", main], ascending=[True, False])
        most = len(shown) if every else _ROWS
        for _, group in shown.groupby("labels_used", sort=False):
            for row in records(group.head(most)):
                ends = row.get(f"{main}_low", math.nan), row.get(f"{main}_high", math.nan)
                view.add_row(
                    _named(row, "score", "approximated"),
                    row["labels_used"],
                    interval(row[main], *ends),
                    *(_number(row[column]) for column in [*columns][1:]),
                    _number(row.get(f"{main}_spread", math.nan)),
                )
            if len(group) > most:
                view.add_row(*_more(len(group) - most, len(view.columns), "truth.csv"))
        view.caption = (
            "Scores are means over seeds, with 95 % bootstrap over samples. over seeds: standard\n"
            "deviation over single runs. labels: whose labels the score has seen.\n"
        ) + (
            "lift: average precision over the share of positives. at pi: precision among as many\n"
            "hardest samples as there are positives."
            if binary
            else f"partial: with {first['control']} held fixed."
        )
        view.caption += _explained(shown)
        out.print(view)


def print_differences(table: pd.DataFrame) -> None:
    """Print paired differences of metrics on each truth, with their intervals."""
    out = console()
    if table.empty:
        return
    for (truth, kind), mine in table.groupby(["truth", "kind"], sort=False):
        columns = _BINARY if kind == "binary" else _GRADED
        columns = {s: title for s, title in columns.items() if s in mine}
        title = f"Differences on {truth}, left minus right"
        view = _view(title, _SIDES, tuple(columns.values()))
        for row in records(mine):
            ends = (interval(row[s], row[f"{s}_low"], row[f"{s}_high"]) for s in columns)
            view.add_row(row["left"], row["right"], *ends)
        view.caption = "95 % bootstrap over samples, the same draws on both sides."
        out.print(view)


def with_truth(
    agreement: pd.DataFrame, truth: pd.DataFrame, differences: pd.DataFrame
) -> pd.DataFrame:
    """One table for programs: agreement, with further columns about truths.

    A row of a metric and a truth gets the statistics of that truth, such as ``auroc``. A row of two
    metrics gets their differences, such as ``auroc_difference.truth_noise_symmetric``.
    """
    table = agreement
    if not truth.empty:
        statistics = [c for c in truth if str(c).startswith((*_BINARY, *_GRADED, "base_rate"))]
        new = [c for c in statistics if c not in table]
        named = truth[["score", "truth", *new]].rename(columns={"score": "left", "truth": "right"})
        table = table.merge(named, how="left", on=[*_SIDES])
    for name, mine in differences.groupby("truth") if not differences.empty else ():
        columns = {
            f"{s}{end}": f"{s}_difference{end}.{name}"
            for s in (*_BINARY, *_GRADED)
            for end in ("", "_low", "_high")
            if f"{s}{end}" in mine and mine[f"{s}{end}"].notna().any()
        }
        named = mine[[*_SIDES, *columns]].rename(columns=columns)
        table = table.merge(named, how="left", on=[*_SIDES])
    return table


def _shared_ending(names: Sequence[str]) -> str:
    """The ending ``.<regimen>`` that all of these score keys share; empty if there is none."""
    regimens = {name.rpartition(".")[2] for name in names} & REGIMENS.keys()
    ending = f".{next(iter(regimens))}" if len(regimens) == 1 else ""
    return ending if all(name.endswith(ending) for name in names) else ""


def _more(left_out: int, columns: int, file: str) -> list[str]:
    """The last row of a shortened table, with the number of rows left out."""
    return [f"… {left_out} more in {file}", *[""] * (columns - 1)]


def _view(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of words, then of numbers; no cell is wrapped."""
    view = Table(box=SIMPLE_HEAD, title=title, title_justify="left", caption_justify="left")
    for column in words:
        view.add_column(column, no_wrap=True)
    for column in numbers:
        view.add_column(column, justify="right", no_wrap=True)
    return view


def records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows as dictionaries."""
    return table.to_dict("records")


def _named(row: Mapping[Hashable, Any], name: str, approximated: str) -> str:
    """The score's name, with a mark if the score is approximated for a large dataset."""
    return f"{row[name]} ≈" if row.get(approximated) else row[name]


def _explained(table: pd.DataFrame) -> str:
    """The line that explains the mark; empty if no row has it."""
    reasons = table.filter(regex="^approximated")
    return "\n≈: approximated at this size, as the notes say." if reasons.any(axis=None) else ""


def _number(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with the ends of its interval, if it has one."""
    text = _number(value, digits)
    return text if math.isnan(low) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _count(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "∞" if math.isinf(value) else f"{value:.0f}"
