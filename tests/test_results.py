"""RESULTS.md: its tables come from the sweeps' files, each into its place."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TEXT = (EXPERIMENTS / "RESULTS.md").read_text()


@pytest.fixture(scope="module")
def results():
    place = importlib.util.spec_from_file_location("results", EXPERIMENTS / "results.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_without_sweeps_every_table_says_so_and_the_text_stays(results, tmp_path):
    filled = results.filled(TEXT, results.Grid(tmp_path))
    tables = re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", filled, re.DOTALL)
    assert [name for name, _ in tables] == [*results.TABLES]
    # What was published stands there without any sweep.
    assert {name for name, table in tables if table != "Not run."} == {"label_noise"}
    assert re.sub(r"-->\n.*?<!-- /", "", filled, flags=re.DOTALL) == re.sub(
        r"-->\n.*?<!-- /", "", TEXT, flags=re.DOTALL
    )
    assert results.every_truth(results.Grid(tmp_path)).empty


def test_a_text_without_a_place_for_a_table_is_told(results, tmp_path):
    with pytest.raises(ValueError, match="expected <!-- stability -->"):
        results.filled("", results.Grid(tmp_path))


def test_worked_example(results, tmp_path):
    sweep = tmp_path / "small-cifar10"
    sweep.mkdir()
    pd.DataFrame(
        {
            "left": ["knn_distance.contrastive", "image_l2_norm", "max_softmax.cross_fit"],
            "right": ["supervised_reference", "supervised_reference without aum", "image_l2_norm"],
            "spearman": [0.123, -0.4, 0.25],
            "spearman_low": [0.1, -0.5, 0.2],
            "spearman_high": [0.146, -0.3, 0.3],
            "spearman_within_class": [0.1, None, 0.2],
            "disattenuated": [0.2, 0.3, 0.4],
        }
    ).to_csv(sweep / "agreement.csv")
    grid = results.Grid(tmp_path)
    assert results.label_free(grid).splitlines() == [
        "| metric | CIFAR-10: Spearman | within class | seed noise divided out |",
        "| --- | --- | --- | --- |",
        "| `knn_distance.contrastive` | 0.12 [0.10, 0.15] | 0.10 | 0.20 |",
        "| `image_l2_norm` | -0.40 [-0.50, -0.30] |  | 0.30 |",
    ]
    assert "| `max_softmax.cross_fit` |  |  |  |  | 0.25 |" in results.uncertainty(grid)

    pd.DataFrame(
        {
            "score": ["aum.supervised", "aum.supervised"],
            "truth": ["truth_human_errors", "differs"],
            "kind": ["graded", "binary"],
            "spearman": [0.5, None],
            "auroc": [None, 0.75],
            "family": "supervised",
            "labels_used": "own",
        }
    ).to_csv(sweep / "truth.csv")
    assert results.every_truth(grid).reset_index().to_dict("records") == [
        {
            "score": "aum.supervised",
            "family": "supervised",
            "labels_used": "own",
            "small-cifar10 truth_human_errors spearman": 0.5,
            "small-cifar10 differs auroc": 0.75,
        }
    ]


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links
    assert all((EXPERIMENTS / link).exists() for link in links)
