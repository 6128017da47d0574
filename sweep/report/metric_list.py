"""The list of metrics, for a terminal and for the docs."""

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from hardness.metrics.registry import METRICS, Metric
from hardness.training import REGIMENS
from sweep.experiment.needs import offered
from sweep.report.terminal import console


def metrics() -> pd.DataFrame:
    """The table of metrics, one row per metric of ``METRICS``."""
    return pd.DataFrame([_metric_row(m) for m in METRICS.values()])


def print_metrics() -> None:
    """Print every metric: family, sign and its origin, needs, paper; variants below its key."""
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
        "passes: forward passes per sample of one scoring pass, in addition to training and to\n"
        "the evaluation after each epoch. If regimens differ, the largest number is shown."
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
    """Forward passes per sample, in the most expensive scoring pass that the metric reads."""
    made = [one for regimen in REGIMENS.values() for one in regimen.passes.values()]
    return max((one.forwards for one in made if {*one.signals} & {*metric.signals}), default=0)


def _cost(metric: Metric) -> str:
    return str(_forward_passes(metric) or "-")
