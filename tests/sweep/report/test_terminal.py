"""What a terminal shows: costs by hand, long tables cut short, and what is cut said."""

import io
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest

from sweep.aggregation.agreement_table import REFERENCE
from sweep.report import metric_list, terminal


@pytest.mark.parametrize(
    ("key", "passes"),
    [
        ("aum", 0),
        ("grand_last_layer", 0),
        ("reconstruction_error", 0),
        ("image_entropy", 0),
        ("grand", 1 + 2),  # forward and backward
        ("mc_dropout_bald", 20),  # draws
        ("odin", 1 + 2 + 1 + 1),  # gradient, perturbed and unperturbed
        ("vog_class_z", 10 * 2 * (1 + 2)),  # checkpoints, logit and probability
    ],
)
def test_the_cost_of_a_metric_counts_forward_passes(key, passes):
    rows = metric_list.metrics().set_index("metric")
    assert rows.loc[key, "forward_passes"] == passes


def printed(rows, **arguments):
    """Lines of the table of agreement; rows are names by the labels that they have used."""
    names = [(f"{labels}{i}", labels) for labels, count in rows.items() for i in range(count)]
    numbers = dict.fromkeys(
        ("spearman_low", "spearman_high", "spearman_within_class", "kendall_tau_b",
         "topk_overlap_10", "disattenuated", "disattenuated_within_class"),
        0.25,
    )  # fmt: skip
    table = pd.DataFrame(
        {
            "left": [name for name, _ in names],
            "right": REFERENCE,
            "labels_used_left": [labels for _, labels in names],
            "spearman": np.linspace(-0.5, 0.5, len(names)),
            **numbers,
        }
    )
    out = io.StringIO()
    with redirect_stdout(out):
        terminal.print_agreement(table, "title", **arguments)
    return out.getvalue().splitlines()


def test_each_kind_of_metric_shows_its_best_rows_and_counts_the_others():
    lines = printed({"none": 23, "own": 20, "others": 22})
    shown = [line.split()[0] for line in lines if "0.25" in line]
    best = [f"none{i}" for i in range(22, 2, -1)]
    assert shown[:20] == best
    assert [line.strip() for line in lines if "more in" in line] == [
        "\u2026 3 more in agreement.csv",
        "\u2026 2 more in agreement.csv",
    ]
    assert sum(name.startswith("own") for name in shown) == 20


def test_pairs_that_were_asked_for_are_all_shown():
    lines = printed({"none": 30}, reference=False)
    assert sum("0.25" in line for line in lines) == 30
    assert not any("more in" in line for line in lines)
