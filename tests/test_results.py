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


NOTHING = pd.DataFrame(columns=["family", "labels_used"])


def test_without_sweeps_all_stays_as_it_is(results, tmp_path, capsys):
    truths = pd.read_csv(EXPERIMENTS / "truths.csv", index_col="score")
    grid = results.Grid(tmp_path, truths)
    assert results.filled(TEXT, grid) == TEXT
    said = capsys.readouterr().out.splitlines()
    # What was drawn several times is compared by what is known already.
    drawn = {"draws", "rare"}
    assert [line.partition(":")[0] for line in said] == [
        n for n in results.TABLES if n not in drawn
    ]
    assert f"because {tmp_path}/small-cifar10/stability.csv is missing" in said[0]
    pd.testing.assert_frame_equal(grid.truths, truths)


def test_a_text_without_a_place_for_a_table_is_told(results, tmp_path):
    with pytest.raises(ValueError, match="expected <!-- stability -->"):
        results.filled("", results.Grid(tmp_path, NOTHING))


def test_worked_example(results, tmp_path):
    for name in ("small-cifar10", "small-mnist", "digits"):
        (tmp_path / name).mkdir()
    agreement = pd.DataFrame(
        {
            "left": ["knn_distance.contrastive", "image_l2_norm", "max_softmax.cross_fit"],
            "right": ["supervised_reference", "supervised_reference without aum", "image_l2_norm"],
            "spearman": [0.123, -0.4, 0.25],
            "spearman_low": [0.1, -0.5, 0.2],
            "spearman_high": [0.146, -0.3, 0.3],
            "spearman_within_class": [0.1, None, 0.2],
            "disattenuated": [0.2, 0.3, 0.4],
        }
    )
    agreement.to_csv(tmp_path / "small-cifar10" / "agreement.csv")
    agreement[:1].to_csv(tmp_path / "small-mnist" / "agreement.csv")
    agreement[:0].to_csv(tmp_path / "digits" / "agreement.csv")
    grid = results.Grid(tmp_path, NOTHING)
    found = [line.split(" | ") for line in results.label_free(grid).splitlines()]
    assert [row[1:5] for row in found if "`" in row[0]] == [
        ["0.12 [0.10, 0.15]", "0.10", "0.20", "0.12 [0.10, 0.15]"],
        ["-0.40 [-0.50, -0.30]", "", "0.30", ""],
    ]
    assert "| `max_softmax.cross_fit` |  |  |  |  | 0.25 [0.20, 0.30] |" in results.uncertainty(
        grid
    )

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
    ).to_csv(tmp_path / "small-cifar10" / "truth.csv")
    before = pd.DataFrame(
        {
            "family": ["supervised", "unsupervised"],
            "labels_used": ["own", "none"],
            "small-cifar10 differs auroc": [0.25, 0.5],
            "small-mnist differs auroc": [1.0, 0.5],
        },
        index=pd.Index(["aum.supervised", "lid_mle.contrastive"], name="score"),
    )
    truths = results.Grid(tmp_path, before).truths.drop(columns=["family", "labels_used"])
    assert truths.loc["aum.supervised"].to_dict() == {
        "small-cifar10 truth_human_errors spearman": 0.5,
        "small-cifar10 differs auroc": 0.75,
        "small-mnist differs auroc": 1.0,
    }
    # A sweep that is there is what its table says now, and one that is not as it was.
    assert truths.loc["lid_mle.contrastive"].dropna().to_dict() == {
        "small-mnist differs auroc": 0.5
    }


def test_draws_of_the_data_are_compared(results, tmp_path):
    truths = pd.DataFrame(
        {
            f"small-cifar10-symmetric20{draw} truth_noise_symmetric auroc": [0.5 + n / 10]
            for n, draw in enumerate(results.DRAWS)
        },
        index=pd.Index(["aum.supervised"], name="score"),
    ).assign(family="supervised", labels_used="own")
    (row,) = results.draws(results.Grid(tmp_path, truths)).splitlines()[2:]
    assert row == "| `aum.supervised` | 0.500 | 0.600 | 0.700 | 0.600 [0.352, 0.848] |"


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert links
    assert all((EXPERIMENTS / link).exists() for link in links)
