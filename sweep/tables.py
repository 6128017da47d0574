"""What a person reads on a terminal: the tables of a sweep, and the same as JSON or CSV."""

import math
import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hardness.metrics import METRICS
from hardness.metrics.registry import Metric
from hardness.plan import TRUTH
from hardness.training import REGIMENS
from sweep.aggregate import REFERENCE, Aggregate, detailed, headline
from sweep.needs import offered
from sweep.places import spool
from sweep.spec import Cell, SweepSpec, shown_values
from sweep.store import Sweep
from sweep.uploading import waiting

Format = Literal["table", "json", "csv"]
_PLAIN_WIDTH = 160
_SIDES = ("left", "right")
# Statistics of a binary and of a graded truth, and what a terminal calls them.
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
# Rows of a table on a terminal; its file has all of them.
_ROWS = 20


def console() -> Console:
    """Standard output; of a fixed width where that is no terminal, so that nothing is cut."""
    found = Console()
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH)


def emit(table: pd.DataFrame, form: Format) -> None:
    """Print a table for programs."""
    if form == "json":
        sys.stdout.write(table.to_json(orient="records", indent=1) + "\n")
    else:
        table.to_csv(sys.stdout, index=False)


def status(sweep: Sweep[SweepSpec]) -> pd.DataFrame:
    """One row a cell: configuration, seed, state, epochs and reason."""
    parameters = {
        p.configuration.configuration_id: shown_values(p.parameters) for p in sweep.proposals
    }
    rows = [_cell_row(c, parameters) | _waiting(sweep, c) for c in sweep.cells]
    return pd.DataFrame(rows)


def print_status(sweep: Sweep[SweepSpec]) -> None:
    """Cells by configuration, then every failure with its reason."""
    table = Table(box=SIMPLE_HEAD, title=f"sweep {sweep.spec.name}", title_justify="left")
    for column in ("configuration", "regimen", "parameters"):
        table.add_column(column)
    for column in ("done", "running", "failed", "missing"):
        table.add_column(column, justify="right")
    cells = status(sweep)
    for keys, group in cells.groupby(["configuration_id", "regimen", "parameters"], sort=False):
        counts = Counter(group["state"])
        states = ("done", "running", "failed", "missing")
        table.add_row(*map(str, keys), *(str(counts[s]) for s in states))
    out = console()
    out.print(table)
    for row in records(cells[cells["reason"] != ""]):
        who = f"{row['regimen']} {row['configuration_id']} seed {row['seed']}"
        out.print(f"{row['state']}: {who}: {row['reason']}", markup=False, soft_wrap=True)
    for line in _waiting_lines(cells):
        out.print(line, markup=False, soft_wrap=True)


def metrics() -> pd.DataFrame:
    """One row a metric, out of ``METRICS``."""
    return pd.DataFrame([_metric_row(m) for m in METRICS.values()])


def print_metrics() -> None:
    """Every metric: family, sign and its origin, what it needs, paper; variants in one line."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("metric", "family", "hard is", "sign", "labels", "passes", "needs", "what"):
        fold = column in ("needs", "what")
        table.add_column(column, no_wrap=not fold, overflow="fold")
    for key, metric in METRICS.items():
        if "." in key:
            continue
        variants = [k.removeprefix(key) for k in METRICS if k.startswith(f"{key}.")]
        table.add_row(
            "\n  ".join([key, *variants]),
            metric.family,
            "high" if metric.sign > 0 else "low",
            metric.sign_origin,
            metric.labels_used,
            _cost(metric),
            "\n".join(metric.signals),
            f"{metric.summary}\n{metric.paper}",
        )
    table.caption = (
        "passes: forward passes a sample beyond training and the evaluation after each epoch,\n"
        "each time that the scoring pass is made; where regimens differ, of the dearest."
    )
    table.caption_justify = "left"
    console().print(table)


def readme_metrics() -> str:
    """The README's table of metrics, in Markdown."""
    rows = ["| metric | family | hard is | sign | reads | passes | what | paper |"]
    rows.append("|" + " --- |" * 8)
    for key, metric in METRICS.items():
        if "." not in key:
            row = _metric_row(metric)
            end = "high" if metric.sign > 0 else "low"
            what = (row["signals"], _cost(metric), row["summary"], row["paper"])
            cells = (f"`{key}`", row["family"], end, row["sign_origin"], *what)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def print_stability(result: Aggregate, best: Sequence[str]) -> None:
    """Stability across seeds of the best configuration of each regimen.

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
            "average until that is 0.9. labels: whose labels the score has seen."
            f"{_explained(mine)}"
        )
        out.print(table)
        if first.missing_seeds:
            out.print(f"missing: {first.missing_seeds}", style="red", markup=False)


def print_agreement(table: pd.DataFrame, title: str, *, reference: bool = True) -> None:
    """Agreement with the supervised reference, or of every pair that there is.

    Columns: Spearman on disjoint runs with its interval, the same within class, Kendall's tau-b,
    overlap of the hardest 10 %, and Spearman with the seed noise of both sides divided out,
    pooled and within class.
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
        "samples. top 10 %: overlap of the hardest. r / noise: Spearman with the seed noise of\n"
        "both sides divided out, also within class. Members of the reference meet the rest of it."
        f"{_explained(rows)}"
    )
    out.print(shown)


def _short_reference(table: pd.DataFrame) -> pd.DataFrame:
    """What is left of the reference under the name of the whole, as the caption says."""
    names = table["right"]
    return table.assign(right=names.where(~names.str.startswith(REFERENCE), REFERENCE))


def print_pairwise(table: pd.DataFrame) -> None:
    """Rank-biased overlap of every pair with its interval, and the partial correlation."""
    if table.empty:
        return
    title = "The hardest of them, and what the image's entropy explains"
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
        "partial: Spearman with the image_entropy held fixed, where an aggregation has scored it."
    )
    console().print(shown)


def print_truth(table: pd.DataFrame, *, every: bool = False) -> None:
    """How well metrics find what is true, a table a truth, those that see no labels together.

    Columns: AUROC with its interval, the same within class, average precision and its lift over
    the base rate, precision among as many as there are positives; of a graded truth Spearman's
    correlation, also within class and with the control held fixed. Then the spread over seeds.

    Args:
        table: ``Aggregate.truth``.
        every: All of its rows, instead of the best that measure hardness, without variants.
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
            "Of the mean over seeds, with the 95 % bootstrap over samples; over seeds: standard\n"
            "deviation over single runs. labels: whose labels the score has seen.\n"
        ) + (
            "lift: average precision over the share of positives. at pi: share of positives among\n"
            "as many hardest samples as there are positives."
            if binary
            else f"partial: with the {first['control']} held fixed."
        )
        view.caption += _explained(shown)
        out.print(view)


def print_differences(table: pd.DataFrame) -> None:
    """Paired differences of metrics against each truth, with their intervals."""
    out = console()
    if table.empty:
        return
    for (truth, kind), mine in table.groupby(["truth", "kind"], sort=False):
        columns = _BINARY if kind == "binary" else _GRADED
        columns = {s: title for s, title in columns.items() if s in mine}
        title = f"Differences on {truth}, left less right"
        view = _view(title, _SIDES, tuple(columns.values()))
        for row in records(mine):
            ends = (interval(row[s], row[f"{s}_low"], row[f"{s}_high"]) for s in columns)
            view.add_row(row["left"], row["right"], *ends)
        view.caption = "95 % bootstrap over samples, the same draws on both sides."
        out.print(view)


def print_pruning(table: pd.DataFrame, name: str) -> None:
    """Accuracy of every arm with its interval, and its distance from the random part beside it.

    A table a score, since names of scores and of what is planted are long.

    Args:
        table: From ``pruning.table``.
        name: Of the sweep whose scores chose.
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


def with_truth(
    agreement: pd.DataFrame, truth: pd.DataFrame, differences: pd.DataFrame
) -> pd.DataFrame:
    """One table for programs: agreement, and what truths add to its rows.

    A row of a metric and a truth also has the statistics of that truth, such as ``auroc``; a row
    of two metrics their differences, such as ``auroc_difference.truth_noise_symmetric``.
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
    """The regimen with its dot, if all of these score keys end with the same."""
    regimens = {name.rpartition(".")[2] for name in names} & REGIMENS.keys()
    ending = f".{next(iter(regimens))}" if len(regimens) == 1 else ""
    return ending if all(name.endswith(ending) for name in names) else ""


def _cell_row(cell: Cell, parameters: dict[str, str]) -> dict[str, Any]:
    configuration, trace = cell.run.configuration, cell.trace
    return {
        "configuration_id": configuration.configuration_id,
        "regimen": configuration.regimen,
        "parameters": parameters[configuration.configuration_id],
        "seed": cell.run.seed,
        "run_id": cell.run.run_id,
        "state": cell.state,
        "epochs": trace.epochs if trace else 0,
        "reason": trace.reason if trace else "",
    }


def _waiting(sweep: Sweep[SweepSpec], cell: Cell) -> dict[str, Any]:
    """What of a cell waits to be uploaded; nothing where this machine does not see the spool."""
    if not Path(sweep.spec.storage_path).is_dir():
        return {"waiting_files": None, "waiting_mib": None}
    files, nbytes = waiting(spool(sweep.spec.storage_path, cell.run.run_id))
    return {"waiting_files": files, "waiting_mib": round(nbytes / 2**20, 3)}


def _waiting_lines(cells: pd.DataFrame) -> list[str]:
    """What waits to be uploaded: all of it, then of which cells."""
    rows = records(cells[cells["waiting_files"].fillna(0) > 0]) if len(cells) else []
    if not rows:
        return []
    files, mib = sum(r["waiting_files"] for r in rows), sum(r["waiting_mib"] for r in rows)
    return [
        f"waiting to be uploaded: {files:.0f} files, {mib:.1f} MiB",
        *(
            f"  {r['regimen']} {r['configuration_id']} seed {r['seed']}: "
            f"{r['waiting_files']:.0f} files, {r['waiting_mib']:.1f} MiB"
            for r in rows
        ),
    ]


def _metric_row(metric: Metric) -> dict[str, Any]:
    recorded_by = [name for name in REGIMENS if offered(name).issuperset(metric.signals)]
    return {
        "metric": metric.key,
        "family": metric.family,
        "sign": metric.sign,
        "sign_origin": metric.sign_origin,
        "scope": metric.scope,
        "labels_used": metric.labels_used,
        "measures": metric.measures,
        "signals": ", ".join(metric.signals),
        "forward_passes": _forward_passes(metric),
        "regimens": "any" if metric.scope == "pixels" else ", ".join(recorded_by),
        "summary": metric.summary,
        "paper": metric.paper,
        "version": metric.version,
    }


def _forward_passes(metric: Metric) -> int:
    """Of a sample each time, in the dearest of the passes that record what the metric reads."""
    made = [one for regimen in REGIMENS.values() for one in regimen.passes.values()]
    return max((one.forwards for one in made if {*one.signals} & {*metric.signals}), default=0)


def _cost(metric: Metric) -> str:
    return str(_forward_passes(metric) or "-")


def _more(left_out: int, columns: int, file: str) -> list[str]:
    """The row that stands for those that were left out."""
    return [f"… {left_out} more in {file}", *[""] * (columns - 1)]


def _view(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of words, then of numbers, none of which is broken into lines."""
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
    """The score's name, marked where the dataset's size makes it an approximation."""
    return f"{row[name]} ≈" if row.get(approximated) else row[name]


def _explained(table: pd.DataFrame) -> str:
    """What the mark means, where there is one."""
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
